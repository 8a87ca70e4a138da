"""Writes decoded batches to a run's folder, and continues one that was interrupted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from lightning_modules.arms.tuning import take_over
from lightning_modules.data.image_list import RESEED_OFFSET
from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.decoded_batch import DecodedBatch
from lightning_modules.predictor import SDVARPredictor
from lightning_modules.run.contents import read_settings
from lightning_modules.run.folder import RunFolder
from lightning_modules.run.formats.png import write_png
from lightning_modules.run.formats.tables import batch_row, manifest_rows
from lightning_modules.run.growth import Growth, growth_of
from lightning_modules.run.plan import RunPlan
from lightning_modules.run.repairs import drop_others, verify
from lightning_modules.run.room import check_room
from lightning_modules.write_pool import WritePool, default_workers
from sdvar.system import steps

log = logging.getLogger("sdvar.writer")


class ImageWriter(BasePredictionWriter):
    """Writes a PNG and a manifest row per image, for every arm, while the next batch is decoded.

    What the folder lacks is known before anything is decoded: `setup` gives the data module the plan, which travels
    with each batch. A batch that is complete is not decoded again; of an incomplete one only what is missing is
    written. All processes share the folder; each image is written by one of them. A run grows by further images where
    those that it has would be the same.

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
        self._growth: Growth | None = None
        self._pool: WritePool | None = None
        self._appending = threading.Lock()
        self._arms: list[str] = []

    def check(self, trainer: Trainer, predictor: SDVARPredictor, data: ClassLabelDataModule) -> None:
        """Refuses labels and a folder that do not fit; the predictor decodes as an earlier session of the run chose.

        Raises:
            ValueError: a label is no class of the models, or the folder holds something else.
        """
        data.check_classes(predictor.pair.num_classes)
        if not self.overwrite and (earlier := read_settings(self.folder.path)):
            predictor.arms = take_over(predictor.arms, earlier.get("arms", {}))
            self._growth = growth_of(earlier, data)
        self.folder.check(self.settings(trainer, predictor, data), self.overwrite, self.extend, self._growth)

    def open(self, trainer: Trainer, predictor: SDVARPredictor, data: ClassLabelDataModule) -> None:
        """Makes the run's folder ready and checks the images in it; one process does this, once.

        `setup` does it too. A command that calls it before `Trainer.predict` reports what is wrong before any other
        process is started.

        Raises:
            ValueError: the folder holds something else, or images that the run did not write, or the disk is too small.
        """
        if self._opened:
            return
        self.check(trainer, predictor, data)  # before time goes into what no folder keeps
        predictor.tune(trainer.strategy.root_device, data, trainer.world_size)
        arms = [arm.name for arm in predictor.arms]
        try:
            settings = self.settings(trainer, predictor, data)
            self.folder.open(settings, arms, self.overwrite, self.extend, self._growth)
            if growth := self._growth:
                print(f"out: {self.folder.path} grows from {growth.before:,} to {growth.after:,} images per arm")
            for arm in predictor.arms:
                drop_others(self.folder, arm.name, _images(data, arm.reseed))
            steps.log.info("checking the images that are there")
            verify(self.folder, arms)
            absent = sum(data.images - len(self.folder.manifest(arm).read()) for arm in arms)
            if there := data.images * len(arms) - absent:
                print(
                    f"out: {self.folder.path} has {there:,} of {data.images * len(arms):,} images of all arms already"
                )
            check_room(self.folder.path, absent, predictor.pair.tokenizer.image_size)
        except BaseException:
            self.folder.lock.release()
            raise
        self._opened = True

    def setup(self, trainer: Trainer, pl_module: SDVARPredictor, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage != "predict":
            return
        if trainer.is_global_zero:
            self.open(trainer, pl_module, trainer.datamodule)
        opened = (self.folder.lock.holder(0), pl_module.arms) if trainer.is_global_zero else None
        holder, pl_module.arms = trainer.strategy.broadcast(opened)  # and wait for it
        if not trainer.is_global_zero:
            self.folder.join(trainer.global_rank, holder)
        self._arms = [arm.name for arm in pl_module.arms]
        trainer.datamodule.plan = RunPlan.read(self.folder, self._arms, pl_module.pair.pyramid.length)
        self._pool = WritePool(self.workers or default_workers(trainer.num_devices))

    @staticmethod
    def settings(trainer: Trainer, predictor: SDVARPredictor, data: ClassLabelDataModule) -> dict:
        """What the images of a run depend on, in plain values; not the number of devices."""
        return {**data.settings(), **predictor.settings(), "device": trainer.strategy.root_device.type}

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
        tasks, rows, timings = [], {}, {}
        with self._one_error():
            for arm, decoded in prediction.items():
                new = batch["missing"][arm].tolist()
                rows[arm] = [row for row, is_new in zip(manifest_rows(batch, decoded), new) if is_new]
                files = [self.folder.path / arm / row["file"] for row in rows[arm]]
                tasks += [partial(write_png, *pair) for pair in zip(files, decoded.images[new])]
                kept = self._keep_tokens(arm, batch["batch"], decoded)
                timings[arm] = batch_row(batch["batch"], decoded, kept)  # in a merge an earlier row of the batch wins
            self._pool.submit(tasks, partial(self._record, trainer.global_rank, rows, timings))
        self.waited = self._pool.waited

    def _keep_tokens(self, arm: str, batch: int, decoded: DecodedBatch) -> str:
        """Writes an arm's tokens, for arms that are added later and for the audit; returns their digest."""
        return self.folder.write_tokens(arm, batch, torch.cat(decoded.tokens, dim=1).cpu().numpy())

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
        """Adds to an error of the disk what it means for the run."""
        try:
            yield
        except OSError as error:
            raise OSError(
                f"out: {self.folder.path} cannot be written: {error}; what is finished is kept, and the same command "
                "continues once that is fixed"
            ) from error

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self._one_error():
            self._pool.flush()
        trainer.strategy.barrier("all images written")
        if trainer.is_global_zero:
            self.folder.merge(self._arms)
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


def _images(data: ClassLabelDataModule, reseed: bool) -> dict[int, tuple[int, int]]:
    """Label and seed of a run's images by index."""
    index, label, seed = (values.tolist() for values in data.listed())
    offset = RESEED_OFFSET if reseed else 0
    return {i: (of_class, one + offset) for i, of_class, one in zip(index, label, seed)}
