"""How many images a second the writer of a run takes, and whether decoding waits for it.

    python eval/benchmark_writer.py                      # 256 px, one thread, at 50 %, 80 % and 120 % of what it takes
    python eval/benchmark_writer.py --workers 4 --folder /shared/scratch --rates 100 200

Lightning predicts with the real writer and with a decoder that, instead of decoding, sleeps as long as a batch takes at
the given rate and hands out made-up pictures of about 120 KB each, as photographs of 256 px have. Below the rate of the
writer, decoding should not wait.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

from sdvar.command_line import ArgumentParser

if TYPE_CHECKING:
    from torch import Tensor

SHARES = (0.5, 0.8, 1.2)  # of the writer's own rate, where no rates are given
PICTURES = 64  # different ones


class Figures(NamedTuple):
    """Of one run.

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see its --help."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    for name in ("workers", "images", "batch_size", "side"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: expected at least 1, got {getattr(options, name)}")
    if any(rate <= 0 for rate in options.rates or ()):
        parser.error(f"--rates: expected numbers above 0, got {options.rates}")
    if options.folder and not options.folder.is_dir():
        parser.error(f"--folder: {options.folder} is no folder")

    images = make_pictures(PICTURES, options.side)
    sizes = (options.images, options.batch_size, options.workers, options.folder)
    free = measure(images, None, *sizes)
    own = options.images / free.seconds
    side, batch = options.side, options.batch_size
    print(f"pictures  {side} x {side}, {free.size / 1e3:.0f} KB each as PNG, in batches of {batch}")
    print(f"writer    {own:.1f} images/s by {options.workers} threads, {options.images / free.cpu:.1f} for each core")
    print("decoder hands out   decoding waited")
    for rate in options.rates or [share * own for share in SHARES]:
        found = measure(images, rate, *sizes)
        print(f"{rate:8.1f} images/s   {found.waited:8.2f} s of {found.seconds:.1f} s")


def build_parser() -> ArgumentParser:
    """The command line of `eval/benchmark_writer.py`."""
    parser = ArgumentParser("eval/benchmark_writer.py", description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", help="images a second that the decoder hands out")
    parser.add_argument("--workers", type=int, default=1, help="threads of the writer. Default 1")
    parser.add_argument("--images", type=int, default=1000, help="of each run. Default 1000")
    parser.add_argument("--batch_size", type=int, default=50, help="default 50")
    parser.add_argument("--side", type=int, default=256, help="of an image. Default 256")
    parser.add_argument("--folder", type=Path, help="where the files lie for a while; default: the temporary folder")
    return parser


def make_pictures(count: int, side: int) -> Tensor:
    """Made-up pictures whose detail falls off with its fineness as in photographs, with a little grain.

    Returns:
        uint8 (count, side, side, 3).
    """
    import numpy as np
    import torch

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
) -> Figures:
    """Writes images as a run does, into a folder that is removed again.

    Args:
        images: to choose from, uint8 (N, H, W, 3).
        rate: images a second that the decoder hands out; None for as many as the writer takes.
        count: of the images to write.
        batch_size: images handed out at once.
        workers: threads of the writer.
        folder: where to make the folder; None for the system's temporary one.
    """
    from lightning.pytorch import Trainer

    from lightning_modules.data.labels import ClassLabelDataModule
    from lightning_modules.run.writer import ImageWriter

    _quieten()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        writer = ImageWriter(out, workers=workers)
        trainer = Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[writer],
        )
        data = ClassLabelDataModule([0], count, batch_size)
        decoder = make_decoder(images, rate)
        trainer.predict(decoder, datamodule=data, return_predictions=False)
        seconds = time.perf_counter() - decoder.began
        cpu = time.process_time() - decoder.began_cpu - (time.thread_time() - decoder.began_here)
        sizes = [file.stat().st_size for file in Path(out).rglob("*.png")]
    return Figures(seconds, writer.waited, cpu, sum(sizes) / len(sizes))


def make_decoder(images: Tensor, rate: float | None):
    """A Lightning module that looks to the writer as a predictor with one arm."""
    import torch
    from lightning.pytorch import LightningModule

    import sdvar
    from lightning_modules.arm import Arm
    from lightning_modules.decode_statistics import PER_IMAGE, PER_SCALE
    from lightning_modules.predictor import DecodedBatch
    from lightning_modules.run.batch_table import PER_ROUND
    from sdvar.decoding.timing import PARTS

    class Decoder(LightningModule):
        arms = (Arm("pictures", sdvar.Baseline()),)
        pair = SimpleNamespace(tokenizer=SimpleNamespace(image_size=images.shape[1]), pyramid=sdvar.ScalePyramid((1,)))

        def settings(self) -> dict:
            return {"arms": {"pictures": "none decoded"}}

        def on_predict_start(self) -> None:
            self.began, self.began_cpu, self.began_here = time.perf_counter(), time.process_time(), time.thread_time()

        def predict_step(self, batch: dict, batch_idx: int) -> dict[str, DecodedBatch]:
            size = len(batch["index"])
            seconds = size / rate if rate else 0.0
            time.sleep(seconds)
            per_image = {name: torch.zeros(size, dtype=torch.int64) for name in PER_IMAGE}
            per_scale = {name: torch.zeros(1, dtype=torch.int64) for name in PER_SCALE}
            pictures = images[batch["index"] % len(images)]
            per_round = {name: torch.zeros(1, 1, dtype=torch.int64) for name in PER_ROUND}
            parts = {part: [0.0, 0.0] for part in PARTS}
            decoded = DecodedBatch(pictures, batch["seed"], [], per_image, per_scale, per_round, seconds, parts)
            return {"pictures": decoded}

    return Decoder()


def _quieten() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")


if __name__ == "__main__":
    main()
