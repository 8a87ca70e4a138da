"""Step: the real command in as many processes as there are GPUs, two at most, which speak by NCCL."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

import sdvar
from eval.contact.step import FAILED, Outcome, Place, judged
from sdvar.pictures import rounded
from sdvar.sampling import Sampling

ARMS = {"baseline": sdvar.Baseline(), "speculative": sdvar.Speculative(2)}
IMAGES_PER_CLASS, BATCH = 2, 4
SAMPLING = {"cfg": 1.5, "top_k": 60}
SOONER = 5.0  # seconds before the whole run is stopped
LINES = 4  # of stderr that a finding quotes


def config(out: str, accelerator: str, devices: int) -> dict[str, Any]:
    """What `python -m lightning_modules predict --config` takes: two arms of the bundled pair."""
    speculative = {"class_path": "sdvar.Speculative", "init_args": {"gamma": 2}}
    strategies = {"baseline": {"class_path": "sdvar.Baseline"}, "speculative": speculative}
    return {
        "model": {
            "class_path": "lightning_modules.predictor.SDVARPredictor",
            "init_args": {
                "pair": "tiny",
                "arms": [{"name": name, "strategy": strategy} for name, strategy in strategies.items()],
                "sampling": SAMPLING,
                "engine": {"graphs": True, "threads": 1},
            },
        },
        "data": {
            "class_path": "lightning_modules.data.labels.ClassLabelDataModule",
            "init_args": {"labels": "0-9", "images_per_class": IMAGES_PER_CLASS, "batch_size": BATCH},
        },
        "trainer": {
            "accelerator": accelerator,
            "devices": devices,
            "strategy": "ddp",  # also with one device: its process group is what is tried
            "benchmark": False,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "default_root_dir": out,
            "callbacks": [{"class_path": "lightning_modules.writer.ImageWriter", "init_args": {"out": out}}],
        },
        "return_predictions": False,
    }


def run(place: Place) -> Outcome:
    """Passed where the command writes the images that one process decodes, whatever the process and the batch."""
    devices = min(2, torch.cuda.device_count())
    with TemporaryDirectory(dir=place.out) as folder:
        out, file = f"{folder}/images", Path(folder, "predict.yaml")
        file.write_text(yaml.safe_dump(config(out, place.processes, devices)))
        command = [sys.executable, "-m", "lightning_modules", "predict", "--config", str(file)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, place.left() - SOONER))
        except subprocess.TimeoutExpired:
            return Outcome(f"`lightning_modules predict` with {devices} processes did not end in time", FAILED)
        if done.returncode:
            said = " | ".join(done.stderr.strip().splitlines()[-LINES:])
            facts = {"config": file.read_text(), "stdout": done.stdout, "stderr": done.stderr}
            return Outcome(f"`lightning_modules predict` ended with {done.returncode}: {said}", FAILED, facts)
        pair = sdvar.Engine(graphs=True).apply(place.pair(torch.float32))
        problems = [problem for name in ARMS for problem in _compare(Path(out, name), pair, ARMS[name])]
    return judged(
        problems, f"{devices} processes of `lightning_modules predict` write the images that one decodes",
        devices=devices, backend="nccl" if place.processes == "gpu" else "gloo",
    )  # fmt: skip


def _compare(folder: Path, pair: sdvar.ModelPair, strategy: sdvar.Strategy) -> list[str]:
    """What is wrong with the images of an arm: they are decoded again, in one batch."""
    with open(folder / "manifest.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    wanted = pair.num_classes * IMAGES_PER_CLASS
    if len(rows) != wanted:
        return [f"{folder.name}: {len(rows)} of {wanted} images are in the manifest"]
    labels, seeds = ([int(row[key]) for row in rows] for key in ("label", "seed"))
    images = sdvar.decode(pair, labels, seeds, strategy, Sampling(**SAMPLING)).images
    expected = rounded(images.cpu()).numpy()
    written = np.stack([np.asarray(Image.open(folder / row["file"])) for row in rows])
    differ = int((written != expected).any(axis=(1, 2, 3)).sum())
    return [f"{folder.name}: {differ} of {wanted} images differ from those of one process"] if differ else []
