"""Which images a run makes: a table of index, label and seed, cut into batches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

SEEDS_PER_RUN = 1_000_000  # image i of a run has the seed run_seed * SEEDS_PER_RUN + i

_NUMBERS = re.compile(r"\s*\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*\s*")


def parse_labels(labels: str | int | Sequence[int]) -> list[int]:
    """Class labels from what a user writes.

    Args:
        labels: a range ``"0-9"``, a list ``"1,5,7"``, both mixed, a sequence of ints, or the path of a text file with
            one label a line.

    Returns:
        The labels in the order given; a label given twice stands twice.

    Raises:
        ValueError: if there is no label, a label is not an int >= 0, or a range runs backwards.
        FileNotFoundError: if the text is neither numbers nor an existing file.
    """
    if isinstance(labels, int):
        labels = [labels]
    if isinstance(labels, str):
        labels = _labels_from_text(labels)
    labels = list(labels)
    wrong = [label for label in labels if isinstance(label, bool) or not isinstance(label, int) or label < 0]
    if wrong or not labels:
        received = f"{wrong[0]!r}" if wrong else "none"
        raise ValueError(f"labels: expected one or more ints >= 0, got {received}")
    return labels


def _labels_from_text(text: str) -> list[int]:
    if _NUMBERS.fullmatch(text):
        labels: list[int] = []
        for part in text.split(","):
            first, _, last = part.partition("-")
            span = range(int(first), int(last or first) + 1)
            if not span:
                raise ValueError(f"labels: the range {part.strip()!r} runs backwards; write the smaller label first")
            labels.extend(span)
        return labels
    path = Path(text)
    if not path.is_file():
        raise FileNotFoundError(
            f"labels: {text!r} is neither a range such as '0-9', nor a list such as '1,5,7', nor an existing file"
        )
    lines = [line.strip() for line in path.read_text().splitlines()]
    for number, line in enumerate(lines, start=1):
        if line and not line.isdecimal():
            raise ValueError(f"labels: {path}, line {number}: expected one label (an int >= 0), got {line!r}")
    return [int(line) for line in lines if line]


class LabelBatches(Dataset):
    """Batches of a label table: item b holds the rows bB..(b+1)B-1, whatever the number of processes.

    Items are dicts of ``batch`` (int) and, each (B,), ``index``, ``label``, ``seed`` (int64) and ``mask`` (bool, False
    for rows that only fill up the batch).

    Args:
        table: a ``datasets`` table with the columns index, label and seed; its length is a multiple of ``batch_size``.
        batch_size: rows of a batch, B.
        images: rows with an index from here on are filling.
    """

    def __init__(self, table, batch_size: int, images: int) -> None:
        self.table = table.with_format("torch")
        self.batch_size = batch_size
        self.images = images

    def __len__(self) -> int:
        return len(self.table) // self.batch_size

    def __getitem__(self, batch: int) -> dict[str, int | Tensor]:
        if not 0 <= batch < len(self):  # a slice past the end would be empty, and iteration would not stop
            raise IndexError(f"batch {batch} of {len(self)}")
        rows = self.table[batch * self.batch_size : (batch + 1) * self.batch_size]
        return {"batch": batch, **rows, "mask": rows["index"] < self.images}


class ClassLabelDataModule(LightningDataModule):
    """The images of a run, as batches of labels and seeds.

    Image i has the label ``labels[i % len(labels)]``, so that every batch is mixed and a part of a run is balanced, and
    the seed ``seed * 1_000_000 + i``. The last batch is filled up with the images that would come next: batches keep
    one shape, and image i comes out the same in a longer run. A run smaller than one batch is one batch of its size.

    Args:
        labels: see `parse_labels`.
        images_per_class: images for each label given.
        batch_size: images decoded together. It belongs to the run: float rounding may depend on it.
        seed: the run's seed, >= 0. Runs with other seeds share no image as long as they hold at most 1,000,000.

    Raises:
        ValueError, FileNotFoundError: naming the argument, before anything is loaded.
    """

    def __init__(
        self, labels: str | int | list[int], images_per_class: int = 1, batch_size: int = 50, seed: int = 0
    ) -> None:
        super().__init__()
        for name, value, least in (("images_per_class", images_per_class, 1), ("batch_size", batch_size, 1)):
            if value < least:
                raise ValueError(f"{name}: expected an int >= {least}, got {value}")
        if not 0 <= seed < 2**20:  # keeps every image's seed below the offset of reseeded arms
            raise ValueError(f"seed: expected an int from 0 to {2**20 - 1}, got {seed}")
        self.labels = parse_labels(labels)
        self.images_per_class = images_per_class
        self.images = len(self.labels) * images_per_class
        if self.images > SEEDS_PER_RUN:
            raise ValueError(f"images_per_class: {self.images} images in all; a run holds at most {SEEDS_PER_RUN}")
        self.batch_size = min(batch_size, self.images)
        self.seed = seed

    def settings(self) -> dict:
        """What the images depend on, in plain values."""
        return {
            "labels": self.labels,
            "images_per_class": self.images_per_class,
            "seed": self.seed,
            "batch_size": self.batch_size,
        }

    def check_classes(self, num_classes: int) -> None:
        """Raises ValueError if a label is not a class of a model with ``num_classes`` classes."""
        if max(self.labels) >= num_classes:
            raise ValueError(f"labels: expected classes 0 to {num_classes - 1}, got {max(self.labels)}")

    @property
    def batches(self) -> int:
        """Batches that hold at least one image of the run."""
        return -(-self.images // self.batch_size)

    def table(self, least_batches: int = 1):
        """The ``datasets`` table of index, label and seed, filled up to whole batches and to ``least_batches``."""
        from datasets import Dataset as Table

        index = range(max(self.batches, least_batches) * self.batch_size)
        return Table.from_dict(
            {
                "index": list(index),
                "label": [self.labels[i % len(self.labels)] for i in index],
                "seed": [self.seed * SEEDS_PER_RUN + i for i in index],
            }
        )

    def predict_dataloader(self) -> DataLoader:
        # Lightning's sampler gives every process at least one item or fails: there are as many batches as processes.
        world_size = self.trainer.world_size if self.trainer else 1
        batches = LabelBatches(self.table(world_size), self.batch_size, self.images)
        return DataLoader(batches, batch_size=1, collate_fn=_only_item)


def _only_item(items: list[dict]) -> dict:
    return items[0]
