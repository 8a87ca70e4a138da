"""Whether a run can grow by further images: those that it has must be the ones that it would have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_modules.data.image_list import digest
from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.run.contents import indices_of


@dataclass(frozen=True)
class Growth:
    """A run that gets further images.

    Attributes:
        before, after: images per arm.
        stale: batches whose row no longer holds, since they get other images: they are decoded again. Their images
            that are there stay.
    """

    before: int
    after: int
    stale: frozenset[int]


def growth_of(earlier: Mapping[str, Any], data: ClassLabelDataModule) -> Growth | None:
    """How the run in a folder grows into that of a data module.

    Args:
        earlier: what the folder's settings.yaml holds.
        data: of the run to be.

    Returns:
        None where it has as many images or more, or where an image of it would have another label or another seed.
    """
    index, label, seed = data.listed()
    old_index = np.asarray(indices_of(earlier))
    there = np.isin(index, old_index)
    if len(index) <= len(old_index) or there.sum() != len(old_index):
        return None
    if not _same(earlier, old_index, label[there], seed[there]):
        return None
    new, old = _batches(index, data.batch_size), _batches(old_index, earlier["batch_size"])
    if earlier["batch_size"] != data.batch_size and len(old) > 1:  # one batch of all images is no choice of a user's
        return None
    longer = earlier["labels"] == data.settings()["labels"] and earlier["batch_size"] == data.batch_size
    # the last batch of a longer list of the same classes was filled up with the images that come now
    stale = [number for number, images in enumerate(old) if not longer and images.tolist() != new[number].tolist()]
    return Growth(len(old_index), len(index), frozenset(stale))


def _same(earlier: Mapping[str, Any], index: np.ndarray, label: np.ndarray, seed: np.ndarray) -> bool:
    """Whether these are the labels and seeds of the earlier run."""
    labels = earlier["labels"]
    if isinstance(labels, dict):
        return (labels.get("label_sha256"), labels.get("seed_sha256")) == (digest(label), digest(seed))
    of_earlier = ClassLabelDataModule(labels, earlier["images_per_class"], earlier["batch_size"], earlier["seed"])
    _, old_label, old_seed = of_earlier.listed()
    return bool((label == old_label).all() and (seed == old_seed).all())


def _batches(index: np.ndarray, size: int) -> list[np.ndarray]:
    return [index[start : start + size] for start in range(0, len(index), size)]
