"""Speed of the writer of a run, fed by a decoder that hands out made-up pictures."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

import sdvar
from lightning_modules.arms.arm import Arm
from lightning_modules.columns import PER_IMAGE, PER_ROUND, PER_SCALE
from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.decoded_batch import DecodedBatch
from lightning_modules.writer import ImageWriter
from sdvar.decoding.timing import PARTS

EXTRAS = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")  # of a trainer


class Written(NamedTuple):
    """The statistics of one run.

    Attributes:
        seconds: from the first batch to the last file.
        waited: seconds of them in which decoding waited for the writer.
        cpu: seconds of a core that the writer's threads took.
        size: mean bytes of a file.
    """

    seconds: float
    waited: float
    cpu: float
    size: float


def make_pictures(count: int, side: int) -> Tensor:
    """Made-up pictures whose detail falls off with its fineness as in photographs, with a little grain.

    Returns:
        uint8 (count, side, side, 3).
    """
    rng = np.random.default_rng(0)
    fineness = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    fineness[0, 0] = 1
    waves = rng.normal(size=(2, count, 3, side, fineness.shape[1])) / fineness**1.5
    layers = np.moveaxis(np.fft.irfft2(waves[0] + 1j * waves[1], (side, side)), 1, -1)  # (count, side, side, 3)
    colours = [[1, 0.9, 0.8], [0.3, 0, -0.3], [0.1, -0.2, 0.1]]  # mostly light and dark, as in photographs
    pixels = 128 + 50 * layers / layers.std() @ np.array(colours) + rng.normal(0, 1.5, layers.shape)
    return torch.from_numpy(pixels.clip(0, 255).round().astype(np.uint8))


def measure(
    images: Tensor, rate: float | None, count: int, batch_size: int, workers: int, folder: Path | None
) -> Written:
    """Writes images as a run does, into a folder that is removed again.

    Args:
        images: to choose from, uint8 (N, H, W, 3).
        rate: images per second that the decoder hands out; None for as many as the writer takes.
        count: of the images to write.
        batch_size: images handed out at once.
        workers: threads of the writer.
        folder: where to make the folder; None for the system's temporary one.
    """
    _quieten()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        writer = ImageWriter(out, workers=workers)
        trainer = Trainer(accelerator="cpu", callbacks=[writer], **dict.fromkeys(EXTRAS, False))
        data, decoder = ClassLabelDataModule([0], count, batch_size), make_decoder(images, rate)
        trainer.predict(decoder, datamodule=data, return_predictions=False)
        seconds = time.perf_counter() - decoder.began
        cpu = time.process_time() - decoder.began_cpu - (time.thread_time() - decoder.began_here)
        sizes = [file.stat().st_size for file in Path(out).rglob("*.png")]
    return Written(seconds, writer.waited, cpu, sum(sizes) / len(sizes))


def make_decoder(images: Tensor, rate: float | None):
    """A Lightning module that looks like a predictor with one arm to the writer."""

    class Decoder(LightningModule):
        arms = (Arm("pictures", sdvar.Baseline()),)
        pair = SimpleNamespace(
            tokenizer=SimpleNamespace(image_size=images.shape[1]), pyramid=sdvar.ScalePyramid((1,)), num_classes=1
        )

        def settings(self) -> dict:
            return {"arms": {arm.name: arm.describe() for arm in self.arms}, "precision": "32-true"}

        def tune(self, *_) -> None:
            """Nothing is to be chosen."""

        def on_predict_start(self) -> None:
            self.began, self.began_cpu, self.began_here = time.perf_counter(), time.process_time(), time.thread_time()

        def predict_step(self, batch: dict, batch_idx: int) -> dict[str, DecodedBatch]:
            size = len(batch["index"])
            seconds = size / rate if rate else 0.0
            time.sleep(seconds)
            shapes = {PER_IMAGE: (size,), PER_SCALE: (1,), PER_ROUND: (1, 1)}
            counts = [{n: torch.zeros(shape, dtype=torch.int64) for n in names} for names, shape in shapes.items()]
            pictures, parts = images[batch["index"] % len(images)], {part: [0.0, 0.0] for part in PARTS}
            tokens = [torch.zeros(size, 1, dtype=torch.int64)]
            return {"pictures": DecodedBatch(pictures, batch["seed"], tokens, *counts, seconds, parts)}

    return Decoder()


def _quieten() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
