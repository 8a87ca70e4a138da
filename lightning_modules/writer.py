"""Writes decoded batches to a run's folder, and continues one that was interrupted."""

from __future__ import annotations

import io
import logging
import math
import signal
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image
from torch import Tensor

from lightning_modules.labels import ClassLabelDataModule
from lightning_modules.metrics import PER_SCALE
from lightning_modules.predictor import DecodedBatch, SDVARPredictor
from lightning_modules.records import write_atomically
from lightning_modules.run_folder import RunFolder, image_file

log = logging.getLogger("sdvar.writer")


class ImageWriter(BasePredictionWriter):
    """Writes each image as a PNG and one manifest row an image, for every arm.

    A batch that is complete in the folder is not decoded again. Of an incomplete one only what is missing is written.
    The folder is shared by all processes; each image is written by one of them.

    Args:
        out: the run's folder.
        overwrite: remove an earlier run in that folder instead of continuing it.
    """

    def __init__(self, out: Path | str, overwrite: bool = False) -> None:
        super().__init__(write_interval="batch")
        self.folder = RunFolder(out)
        self.overwrite = overwrite
        self._rows: dict[str, set[int]] = {}  # by arm, the images that have a manifest row
        self._batches: dict[str, set[int]] = {}

    def setup(self, trainer: Trainer, pl_module: SDVARPredictor, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage != "predict":
            return
        arms = [arm.name for arm in pl_module.arms]
        self._side = pl_module.pair.tokenizer.image_size
        if trainer.is_global_zero:
            self.folder.open(self.settings(trainer, pl_module, trainer.datamodule), arms, self.overwrite)
        trainer.strategy.barrier("run folder open")
        if not trainer.is_global_zero:
            self.folder.lock.acquire(trainer.global_rank)
        for arm in arms:
            self._rows[arm] = {int(row["index"]) for row in self.folder.manifest(arm).read()}
            self._batches[arm] = {int(row["batch"]) for row in self.folder.batches(arm).read()}

    @staticmethod
    def settings(trainer: Trainer, predictor: SDVARPredictor, data: ClassLabelDataModule) -> dict:
        """What the images of a run depend on, in plain values; not the number of devices."""
        return {**data.settings(), **predictor.settings(), "device": trainer.strategy.root_device.type}

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if all(self._finished(arm, batch) for arm in self._rows):
            batch["mask"].fill_(False)  # the predictor decodes nothing

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Mapping[str, DecodedBatch],
        batch_indices: list[int] | None,
        batch: dict[str, int | Tensor],
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        indices, wanted = batch["index"].tolist(), batch["mask"].tolist()
        for arm, decoded in prediction.items():
            folder = self.folder.path / arm
            for image, index, keep in zip(decoded.images, indices, wanted):
                if keep and not is_whole(folder / image_file(index), image.shape[0]):
                    write_png(folder / image_file(index), image)
            # The images come first: a row promises that its file is there.
            rows = [row for row, keep in zip(_manifest_rows(batch, decoded), wanted) if keep]
            rows = [row for row in rows if row["index"] not in self._rows[arm]]
            self.folder.manifest(arm).append(trainer.global_rank, rows)
            if batch["batch"] not in self._batches[arm]:
                sums = {name: " ".join(map(str, decoded.per_scale[name].tolist())) for name in PER_SCALE}
                row = {"batch": batch["batch"], "seconds": f"{decoded.seconds:.6f}", **sums}
                self.folder.batches(arm).append(trainer.global_rank, [row])

    def on_predict_batch_end(self, trainer: Trainer, *arguments: object, **keywords: object) -> None:
        super().on_predict_batch_end(trainer, *arguments, **keywords)
        if trainer.received_sigterm:  # a cluster takes the node back
            if trainer.is_global_zero:
                log.warning("stopped by SIGTERM after a whole batch; run the same command again to continue")
            raise SystemExit(128 + signal.SIGTERM)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.strategy.barrier("all images written")
        if trainer.is_global_zero:
            self.folder.merge(self._rows)
        trainer.strategy.barrier("tables merged")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.folder.lock.release()

    def _finished(self, arm: str, batch: dict) -> bool:
        indices = batch["index"][batch["mask"]].tolist()
        return (
            batch["batch"] in self._batches[arm]
            and self._rows[arm].issuperset(indices)
            and all(is_whole(self.folder.path / arm / image_file(index), self._side) for index in indices)
        )


def is_whole(path: Path, side: int) -> bool:
    """Whether a file is there and can be decoded to an image of side x side pixels."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.size == (side, side)
    except FileNotFoundError:
        return False
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        log.warning("%s is damaged (%s) and made again", path, error)
        return False


def write_png(path: Path, image: Tensor) -> None:
    """Writes a uint8 (H, W, 3) image so that the file appears whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(image.numpy()).save(buffer, format="PNG")
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, buffer.getvalue())


def _manifest_rows(batch: dict, decoded: DecodedBatch) -> list[dict[str, object]]:
    columns = {"index": batch["index"].tolist(), "label": batch["label"].tolist(), "seed": decoded.seeds.tolist()}
    columns["file"] = [image_file(index) for index in columns["index"]]
    columns |= {name: values.tolist() for name, values in decoded.per_image.items()}
    absent = [""] * len(decoded.images)
    length = sum(scale.shape[1] for scale in decoded.tokens)
    agreeing = [] if decoded.agreeing_tokens is None else decoded.agreeing_tokens.tolist()
    columns["tokens_equal_baseline"] = [int(count == length) for count in agreeing] or absent
    columns["agreeing_tokens"] = agreeing or absent
    gaps = [] if decoded.score_gap is None else decoded.score_gap.tolist()
    columns["score_gap"] = ["" if math.isnan(gap) else f"{gap:.3e}" for gap in gaps] or absent
    return [dict(zip(columns, row)) for row in zip(*columns.values())]
