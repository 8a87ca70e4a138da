"""Token shards written by `Trainer.predict`, and which images are left to make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor, from_numpy
from torch.utils.data import DataLoader, Dataset

from lightning_modules.distilling.tokens.shards import (
    DISTRIBUTIONS,
    Origin,
    read_columns,
    read_origin,
    shards,
    write_shard,
)

# in all shards of a folder
SAME = ("source", "teacher", "tokenizer", "patch_nums", "sampling", "seed", "precision", "distributions")


class MissingImages(LightningDataModule):
    """Batches of the images that a folder of shards lacks.

    Args:
        folder: of the shards.
        origin: of all of its images.
        count: images that it is to have, 0 .. count - 1.
        batch_size: images of a batch.
        load: what a batch holds beside ``index``: from the numbers of its images, int64 (B,).

    Attributes:
        missing: numbers of the images to make, int64.

    Raises:
        ValueError: the folder has shards of something else, or damaged ones.
    """

    def __init__(
        self, folder: Path, origin: Origin, count: int, batch_size: int, load: Callable[[Tensor], dict[str, Tensor]]
    ) -> None:
        super().__init__()
        self.batch_size, self.load = batch_size, load
        self.missing = np.setdiff1d(np.arange(count), _there(folder, origin))

    def setup(self, stage: str) -> None:
        self.missing = self.trainer.strategy.broadcast(self.missing)  # one node may see a new shard late

    def predict_dataloader(self) -> DataLoader:
        """A loader of dicts with ``index``, int64 (B,), and what ``load`` gives."""
        batches = np.split(self.missing, range(self.batch_size, len(self.missing), self.batch_size))
        # Lightning's sampler wants a batch for every process: the last one twice is written twice, with one name
        batches += batches[-1:] * (self.trainer.world_size - len(batches))
        return DataLoader(_Batches(batches, self.load), batch_size=1, collate_fn=lambda items: items[0])


class _Batches(Dataset):
    def __init__(self, batches: Sequence[np.ndarray], load: Callable[[Tensor], dict[str, Tensor]]) -> None:
        self.batches, self.load = batches, load

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        if number >= len(self.batches):
            raise IndexError(number)
        index = from_numpy(self.batches[number])
        return {"index": index, **self.load(index)}


def _there(folder: Path, origin: Origin) -> np.ndarray:
    """Numbers of the images that a folder has; ValueError if they are not those of an origin."""
    there = [np.zeros(0, dtype=np.int64)]
    for file in shards(folder):
        if other := read_origin(file).differences(origin, SAME):
            raise ValueError(f"out: {folder} has shards with {'; '.join(other)}; give another folder")
        (index,) = read_columns(file, ["index"])
        there.append(index)
    return np.concatenate(there)


class TokenWriter(BasePredictionWriter):
    """Writes the columns that a predict step returns into shards; what it holds is written at the end too.

    A run that is killed loses the images of one shard per process at most.

    Args:
        folder: of the shards; it exists.
        origin: of the images.
        images: of a shard, at least; the last ones have fewer.
    """

    def __init__(self, folder: Path, origin: Origin, images: int) -> None:
        super().__init__(write_interval="batch")
        self.folder, self.origin, self.images = folder, origin, images
        self._batches: list[dict[str, Any]] = []

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: dict[str, Any],
        batch_indices: list[int] | None,
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        columns = {name: batch[name].tolist() for name in ("index", "label", "seed") if name in batch}
        self._batches.append(columns | prediction | {"tokens": prediction["tokens"].cpu().numpy()})
        if sum(len(held["index"]) for held in self._batches) >= self.images:
            self._write()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()
        trainer.strategy.barrier("all shards written")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, OSError):  # what was made is kept
            self._write()

    def _write(self) -> None:
        if not self._batches:
            return
        tokens = np.concatenate([batch.pop("tokens") for batch in self._batches])
        held = {name: [one for batch in self._batches for one in batch[name]] for name in self._batches[0]}
        seeds = held.get("seed", [None] * len(tokens))
        distributions = {name: held[name] for name in DISTRIBUTIONS if name in held}
        write_shard(self.folder, self.origin, held["index"], held["label"], seeds, tokens, distributions)
        self._batches = []
