"""Writes decoded batches to a run's folder, and continues one that was interrupted."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from lightning_modules.arm import BASELINE
from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.predictor import DecodedBatch, SDVARPredictor
from lightning_modules.run.batch_table import batch_row
from lightning_modules.run.folder import RunFolder, image_file
from lightning_modules.run.png import write_png
from lightning_modules.run.write_pool import WritePool, default_workers

log = logging.getLogger("sdvar.writer")


class ImageWriter(BasePredictionWriter):
    """Writes each image as a PNG and one manifest row an image, for every arm, while the next batch is decoded.

    A batch that is complete in the folder is not decoded again. Of an incomplete one only what is missing is written.
    The folder is shared by all processes; each image is written by one of them.

    Args:
        out: the run's folder.
        overwrite: remove an earlier run in that folder instead of continuing it.
        workers: threads that encode and write; None takes this process's share of the cores.
        extend: add arms to an earlier run in that folder; its other settings must be the same.

    Attributes:
        waited: seconds that decoding has waited for images to be written.
    """

    def __init__(
        self, out: Path | str, overwrite: bool = False, workers: int | None = None, extend: bool = False
    ) -> None:
        super().__init__(write_interval="batch")
        if workers is not None and workers < 1:
            raise ValueError(f"workers: expected an int >= 1, got {workers}")
        self.folder = RunFolder(out)
        self.overwrite = overwrite
        self.extend = extend
        self.workers = workers
        self.waited = 0.0
        self._opened = False
        self._pool: WritePool | None = None
        self._appending = threading.Lock()
        self._rows: dict[str, set[int]] = {}  # by arm, the images that have a manifest row, and so are there
        self._batches: dict[str, set[int]] = {}

    def open(self, trainer: Trainer, predictor: SDVARPredictor, data: ClassLabelDataModule) -> None:
        """Makes the run's folder ready and checks the images in it; one process does this, once.

        `setup` does it too. A command that calls it before `Trainer.predict` reports what is wrong before any other
        process is started.

        Raises:
            ValueError: the folder holds something else, or images that the run did not write.
        """
        if self._opened:
            return
        arms = [arm.name for arm in predictor.arms]
        try:
            self.folder.open(self.settings(trainer, predictor, data), arms, self.overwrite, self.extend)
            self.folder.verify(arms, predictor.pair.tokenizer.image_size)
        except BaseException:
            self.folder.lock.release()
            raise
        self._opened = True

    def setup(self, trainer: Trainer, pl_module: SDVARPredictor, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage != "predict":
            return
        self._length = pl_module.pair.pyramid.length
        if trainer.is_global_zero:
            self.open(trainer, pl_module, trainer.datamodule)
        holder = self.folder.lock.holder(0) if trainer.is_global_zero else None
        holder = trainer.strategy.broadcast(holder)  # and wait for it
        if not trainer.is_global_zero:
            self.folder.join(trainer.global_rank, holder)
        for arm in pl_module.arms:
            self._rows[arm.name] = {int(row["index"]) for row in self.folder.manifest(arm.name).read()}
            self._batches[arm.name] = {int(row["batch"]) for row in self.folder.batches(arm.name).read()}
        self._pool = WritePool(self.workers or default_workers(trainer.num_devices))

    @staticmethod
    def settings(trainer: Trainer, predictor: SDVARPredictor, data: ClassLabelDataModule) -> dict:
        """What the images of a run depend on, in plain values; not the number of devices."""
        return {**data.settings(), **predictor.settings(), "device": trainer.strategy.root_device.type}

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        indices = batch["index"][batch["mask"]].tolist()
        finished = [
            arm for arm, rows in self._rows.items() if batch["batch"] in self._batches[arm] and rows.issuperset(indices)
        ]
        if BASELINE in finished and len(finished) < len(self._rows):  # the others are compared with it
            shape = len(batch["index"]), self._length
            tokens = self.folder.read_tokens(BASELINE, batch["batch"], shape)
            if tokens is None:
                finished.remove(BASELINE)
            else:
                batch["baseline_tokens"] = torch.from_numpy(tokens).to(pl_module.device)
        batch["finished"] = finished

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
        tasks, rows, timings = [], {}, {}
        for arm, decoded in prediction.items():
            new = [keep and index not in self._rows[arm] for index, keep in zip(indices, wanted)]
            files = [self.folder.path / arm / image_file(index) for index in indices]
            tasks += [partial(write_png, *pair) for pair, is_new in zip(zip(files, decoded.images), new) if is_new]
            rows[arm] = [row for row, is_new in zip(_manifest_rows(batch, decoded), new) if is_new]
            if batch["batch"] not in self._batches[arm]:
                timings[arm] = batch_row(batch["batch"], decoded)
        with self._one_error():
            if BASELINE in prediction:
                tokens = torch.cat(prediction[BASELINE].tokens, dim=1)
                self.folder.write_tokens(BASELINE, batch["batch"], tokens.cpu().numpy())
            self._pool.submit(tasks, partial(self._record, trainer.global_rank, rows, timings))
        self.waited = self._pool.waited

    def _record(self, rank: int, rows: dict[str, list[dict]], timings: dict[str, dict], digests: list[str]) -> None:
        """Appends the rows of a batch whose images are all there: a row promises its file."""
        written = iter(digests)
        with self._appending:
            for arm, of_arm in rows.items():
                self.folder.manifest(arm).append(rank, [row | {"sha256": next(written)} for row in of_arm])
            for arm, timing in timings.items():
                self.folder.batches(arm).append(rank, [timing])

    @contextmanager
    def _one_error(self) -> Iterator[None]:
        """Says of a full disk and the like what it means for the run."""
        try:
            yield
        except OSError as error:
            raise OSError(
                f"out: {self.folder.path} cannot be written: {error}; what is finished is kept, and the same command "
                "continues when that is mended"
            ) from error

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self._one_error():
            self._pool.flush()
        trainer.strategy.barrier("all images written")
        if trainer.is_global_zero:
            self.folder.merge(self._rows)
        trainer.strategy.barrier("tables merged")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._pool and not isinstance(exception, OSError):  # what was decoded before is written
            try:
                self._pool.flush()
            except OSError as error:
                log.error("out: %s cannot be written: %s", self.folder.path, error)
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()

    def _close(self) -> None:
        if self._pool:
            self._pool.close()
        self.folder.lock.release()
        self._opened = False


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
