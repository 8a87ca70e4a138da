"""The progress line."""

from __future__ import annotations

import sys

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.decoded_batch import DecodedBatch
from lightning_modules.predictor import SDVARPredictor

NAMED = 3  # arms whose share of accepted scales has room in the line


class ProgressBar(TQDMProgressBar):
    """One line on stderr: images, images per second, the time left, and the share of drafted scales that were accepted.

    It counts the images of all arms that the first process decodes; nothing is asked of the others. Images that were
    there already count as done, but not as decoded in this time.
    """

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} images [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"

    def init_predict_tqdm(self) -> Tqdm:
        """A line for images instead of batches."""
        return Tqdm(
            desc="decoding" if self.trainer.world_size == 1 else f"decoding (1 of {self.trainer.world_size} processes)",
            total=_images(self.trainer),
            unit=" images",
            disable=self.is_disabled,
            leave=True,
            dynamic_ncols=True,
            file=sys.stderr,
            smoothing=0,  # the mean since the start
            bar_format=self.BAR_FORMAT,
        )

    def on_predict_batch_start(self, *_: object, **__: object) -> None:
        """Leaves the line as it is; Lightning's would count batches."""

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: SDVARPredictor,
        outputs: dict[str, DecodedBatch],
        batch: dict,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a batch."""
        bar = self.predict_progress_bar
        if bar.disable:
            return
        images = int(batch["mask"].sum())
        bar.initial += (len(pl_module.arms) - len(outputs)) * images  # those that were there already
        bar.set_postfix_str(acceptance(pl_module), refresh=False)
        bar.update(len(pl_module.arms) * images)


def acceptance(predictor: SDVARPredictor) -> str:
    """Share of drafted scales that this process accepted so far, for each arm that drafts: ``accepted: fast 61%``.

    Of more than `NAMED` arms the least and the largest share.
    """
    shares = {}
    for arm, statistics in zip(predictor.arms, predictor.statistics):
        drafted = int(statistics.drafted_scales.sum())  # not compute(): that would wait for the other processes
        if drafted:
            shares[arm.name] = int(statistics.accepted_scales.sum()) / drafted
    if len(shares) > NAMED:
        return f"accepted: {min(shares.values()):.0%} to {max(shares.values()):.0%}"
    return f"accepted: {', '.join(f'{name} {share:.0%}' for name, share in shares.items())}" if shares else ""


def _images(trainer: Trainer) -> int:
    """Images of all arms that the first of n processes is to make: those of every n-th batch."""
    data: ClassLabelDataModule = trainer.datamodule
    batches = range(0, data.batches, trainer.world_size)
    rows = sum(min(data.batch_size, data.images - batch * data.batch_size) for batch in batches)
    return len(trainer.lightning_module.arms) * rows
