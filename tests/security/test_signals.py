"""A campaign: every command that writes is stopped at a random moment and given again.

Images, tables and metrics are then those of an undisturbed run, byte for byte but for times.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_modules.columns import ROW_DIGEST
from tests.paths import ROOT

pytestmark = pytest.mark.proof

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ROUNDS = {"fid": 24, "fid 2": 16, "sweep": 16, "predict": 10, "predict 2": 10, "measure": 16, "export": 16}
OF_A_MACHINE = ("environment", "measured_on", "wall_seconds", "config")  # in metrics.json


def line(command: str, files: dict[str, Path], out: Path) -> list[str]:
    """The command line of one of `ROUNDS`, writing to ``out``."""
    name, _, processes = command.partition(" ")
    processes = processes or "1"
    if name == "export":
        options = ["--out", str(out), "--arm", "baseline", str(exported_file(out))]
        return [sys.executable, str(ROOT / "eval/export.py"), *options]
    if name == "measure":
        return [sys.executable, str(ROOT / "eval/measure.py"), "--out", str(out), "--metrics", "is,fid,pairs"]
    if name == "predict":
        model = [f"--model.pair.{model}={file}" for model, file in files.items()]
        options = ["predict", "--config", str(ROOT / "configs/predict_tiny.yaml"), *model, "--data.labels", "0-4"]
        options += ["--data.images_per_class", "4", "--data.batch_size", "2", "--trainer.devices", processes]
        return [sys.executable, "-m", "lightning_modules", *options]
    script = f"eval/{name}.py"
    options = [text for model, file in files.items() for text in (f"--{model}", str(file))]
    options += ["--images_per_class", "8", "--batch_size", "2", "--threads", "1", "--accelerator", "cpu"]
    options += ["--devices", processes, "--metrics", "is,fid,pairs", "--feature_extractor", "fashion-mnist-128"]
    options += ["--sampling.top_k", "0", "--sampling.top_p", "0", "--out", str(out)]
    options += ["--strategy", "Speculative", "--strategy.gamma", "2"]
    return [sys.executable, str(ROOT / script), *options]


def exported_file(out: Path) -> Path:
    return out.with_suffix(".npz")


def outcome(out: Path) -> dict[str, object]:
    """All that the run holds but times, and what was exported of it, by file."""
    found: dict[str, object] = {}
    for file in sorted(file for file in (*out.rglob("*"), exported_file(out)) if file.is_file()):
        name = str(file.relative_to(out.parent))
        if file.suffix in (".png", ".npz", ".zlib") or file.name == "manifest.csv":
            found[name] = file.read_bytes()
        elif file.name == "batches.csv":
            with file.open(newline="") as table:
                rows = list(csv.DictReader(table))
            timed = [column for column in rows[0] if "seconds" in column or column == ROW_DIGEST]
            found[name] = [{column: row[column] for column in row if column not in timed} for row in rows]
        elif file.name == "metrics.json":
            metrics = json.loads(file.read_text())
            found[name] = without_times({key: metrics[key] for key in metrics if key not in OF_A_MACHINE})
        elif ".lock" not in name:
            found[name] = "there"
    return found


def without_times(value: object) -> object:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if "second" not in k and not k.startswith("speed")}
        return {key: without_times(inner) for key, inner in kept.items()}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def begin(command: str, files: dict[str, Path], out: Path, folder: Path) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line(command, files, out), env=env, cwd=folder, start_new_session=True, **quiet)


def finish(command: str, files: dict[str, Path], out: Path, folder: Path) -> float:
    """Runs to the end; the seconds that it took."""
    started = time.monotonic()
    process = begin(command, files, out, folder)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return time.monotonic() - started


@pytest.fixture(scope="module")
def base(pair_files, tmp_path_factory) -> Path:
    """A finished run, for the commands that work on one."""
    folder = tmp_path_factory.mktemp("signals")
    finish("fid", pair_files, folder / "run", folder)
    return folder / "run"


@pytest.fixture(scope="module")
def undisturbed(pair_files, base, tmp_path_factory) -> dict[str, tuple[dict, float]]:
    """What each command leaves, and the seconds that it takes; made when first asked for."""

    class Made(dict):
        def __missing__(self, command: str) -> tuple[dict, float]:
            folder = tmp_path_factory.mktemp("undisturbed")
            out = place(command, base, folder)
            seconds = finish(command, pair_files, out, folder)
            self[command] = outcome(out), seconds
            return self[command]

    return Made()


def place(command: str, base: Path, folder: Path) -> Path:
    """Where the command writes: a copy of a finished run, or a folder that is not there yet."""
    if command in ("measure", "export"):
        return shutil.copytree(base, folder / "run")
    return folder / ("runs/predict_tiny" if command.startswith("predict") else "run")


@pytest.mark.parametrize(("command", "attempt"), [(name, n) for name, rounds in ROUNDS.items() for n in range(rounds)])
def test_a_stopped_command_is_made_up_for(command, attempt, pair_files, base, undisturbed, tmp_path):
    expected, seconds = undisturbed[command]
    draw = random.Random(f"{command} {attempt}")
    out, told = place(command, base, tmp_path), draw.choice(SIGNALS)
    process = begin(command, pair_files, out, tmp_path)
    time.sleep(draw.uniform(0.0, seconds))
    if process.poll() is None:
        os.killpg(process.pid, told) if draw.random() < 0.5 else os.kill(process.pid, told)
    try:
        process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"{command} goes on after {told.name}") from None
    exported = command == "export" and exported_file(out).exists()  # whole, or not there at all
    if process.returncode != 0 and not exported:
        finish(command, pair_files, out, tmp_path)
    assert outcome(out) == expected
