"""Which images a run makes: a table of index, label and seed, cut into batches."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_modules.data.class_lists import read_class_list
from lightning_modules.data.image_list import SEEDS_PER_RUN, digest, shuffled
from lightning_modules.data.label_ranges import IMAGES_LIMIT, as_ranges


class Plan(Protocol):
    """Says what is left to do of a batch, see `lightning_modules.run.plan.RunPlan`."""

    def of_batch(self, batch: int, index: Tensor, mask: Tensor) -> dict[str, object]: ...


class LabelBatches(Dataset):
    """Batches of a label table: item b holds the rows bB..(b+1)B-1, whatever the number of processes.

    Items are dicts of ``batch`` (int) and, each (B,), ``index``, ``label``, ``seed`` (int64) and ``mask`` (bool, False
    for rows that only fill up the batch), with what the plan says of the batch.

    Args:
        table: a ``datasets`` table with the columns index, label, seed and mask; its length is a multiple of
            ``batch_size``.
        batch_size: rows per batch, B.
        plan: of the run; None where everything is to be decoded and nothing written.
    """

    def __init__(self, table, batch_size: int, plan: Plan | None = None) -> None:
        self.table = table.with_format("torch")
        self.batch_size = batch_size
        self.plan = plan

    def __len__(self) -> int:
        return len(self.table) // self.batch_size

    def __getitem__(self, batch: int) -> dict[str, int | Tensor]:
        if not 0 <= batch < len(self):  # a slice past the end would be empty, and iteration would not stop
            raise IndexError(f"batch {batch} of {len(self)}")
        rows = self.table[batch * self.batch_size : (batch + 1) * self.batch_size]
        planned = self.plan.of_batch(batch, rows["index"], rows["mask"]) if self.plan else {}
        return {"batch": batch, **rows, **planned}


class ClassLabelDataModule(LightningDataModule):
    """The images of a run, as batches of labels and seeds.

    A list of n classes gives ``images_per_class`` blocks of n images, each block the whole list in an order of its own,
    so that every part of a run is balanced. Image i has the seed ``seed * 1_000_000 + i``, and its label depends on the
    list, ``seed`` and i alone: it comes out the same in a longer run. The last batch is filled up with the images that
    would come next: batches keep one shape. A run smaller than one batch is one batch of its size.

    A file with a column ``seed`` or ``index`` gives exactly its images, in the order of their index. Without ``index``
    they are 0, 1, 2, …; without ``seed`` image i has the seed above. The index may have gaps, so that a list can be cut
    into parts for several machines. The last batch is filled up with repetitions of the last image.

    Args:
        labels: see `read_class_list`.
        images_per_class: images for each label given, 1 if None.
        batch_size: images decoded together. It belongs to the run: float rounding may depend on it.
        seed: the run's seed, >= 0. Runs with other seeds share no image as long as they have at most 1,000,000.

    Attributes:
        plan: what is left to do of the run; set before its batches are asked for, None for all of it.

    Raises:
        ValueError: naming the argument, before anything is loaded.
    """

    def __init__(
        self,
        labels: str | int | list[int | str],
        images_per_class: int | None = None,
        batch_size: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("images_per_class", images_per_class), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected an int >= 1, got {value}")
        if not 0 <= seed < 2**20:  # keeps every image's seed below the offset of reseeded arms
            raise ValueError(f"seed: expected an int from 0 to {2**20 - 1}, got {seed}")
        self.classes = read_class_list(labels)
        if self.classes.fixed and (images_per_class or 1) > 1:
            raise ValueError(
                f"images_per_class: {labels} gives the images one by one (column seed or index), each is made once; "
                f"expected none or 1, got {images_per_class}"
            )
        if self.classes.seeds is not None and seed:
            raise ValueError(f"seed: {labels} has a column seed; expected none or 0, got {seed}")
        self.images_per_class = images_per_class or 1
        self.images = len(self.classes.labels) * self.images_per_class
        if self.images > IMAGES_LIMIT:
            raise ValueError(f"images_per_class: {self.images} images in all; expected at most {IMAGES_LIMIT}")
        self.batch_size = min(batch_size, self.images)
        self.seed = seed
        self.plan: Plan | None = None

    def settings(self) -> dict:
        """What the images depend on, in plain values."""
        if self.classes.fixed:
            index, label, seed = self._listed(self.images)
            listed = {"images": self.images, "index": as_ranges(index.tolist())}
            listed |= {"label_sha256": digest(label), "seed_sha256": digest(seed)}
            return {"labels": listed, "seed": self.seed, "batch_size": self.batch_size}
        return {
            "labels": self.classes.labels,
            "images_per_class": self.images_per_class,
            "seed": self.seed,
            "batch_size": self.batch_size,
        }

    def check_classes(self, num_classes: int) -> None:
        """Raises ValueError if a label is not a class of a model with ``num_classes`` classes."""
        self.classes.check_classes(num_classes)

    @property
    def batches(self) -> int:
        """Batches that hold at least one image of the run."""
        return -(-self.images // self.batch_size)

    def table(self, least_batches: int = 1):
        """The ``datasets`` table that `LabelBatches` cuts, filled up to whole batches and to ``least_batches``."""
        from datasets import Dataset as Table

        rows = max(self.batches, least_batches) * self.batch_size
        index, label, seed = self.listed(rows)
        return Table.from_dict({"index": index, "label": label, "seed": seed, "mask": np.arange(rows) < self.images})

    def listed(self, rows: int | None = None) -> tuple[np.ndarray, ...]:
        """Index, label and seed of the run's images, each int64 (images,), by index; or of so many rows, filled up."""
        rows = self.images if rows is None else rows
        return self._listed(rows) if self.classes.fixed else shuffled(self.classes.labels, self.seed, rows)

    def _listed(self, rows: int) -> tuple[np.ndarray, ...]:
        """The same of the images of a file, by index, the last one repeated."""
        index = np.arange(self.images) if self.classes.index is None else np.array(self.classes.index)
        seeds = self.seed * SEEDS_PER_RUN + index if self.classes.seeds is None else np.array(self.classes.seeds)
        order = np.pad(index.argsort(), (0, rows - self.images), mode="edge")
        return index[order], np.array(self.classes.labels)[order], seeds[order]

    def predict_dataloader(self) -> DataLoader:
        # Lightning's sampler gives every process at least one item or fails: there are as many batches as processes.
        world_size = self.trainer.world_size if self.trainer else 1
        batches = LabelBatches(self.table(world_size), self.batch_size, self.plan)
        return DataLoader(batches, batch_size=1, collate_fn=_only_item)


def _only_item(items: list[dict]) -> dict:
    return items[0]
