"""Index, label and seed of the images of a run, as they follow from its settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lightning_modules.data.class_lists import SEED_LIMIT
from lightning_modules.data.label_ranges import IMAGES_LIMIT

SEEDS_PER_RUN = IMAGES_LIMIT  # image i of a run has the seed run_seed * SEEDS_PER_RUN + i
RESEED_OFFSET = SEED_LIMIT  # above every seed of a run, so that a reseeded arm shares no noise with the others


def shuffled(labels: Sequence[int], seed: int, rows: int) -> tuple[np.ndarray, ...]:
    """Index, label and seed of images 0 to rows - 1 of a list of n classes, each int64 (rows,).

    The order of block b is that of the numbers bn … (b+1)n - 1 of the Philox generator whose key is the run's seed.
    NumPy keeps the numbers of its bit generators for good, unlike its permutations.
    """
    n, index = len(labels), np.arange(rows)
    numbers = np.random.Philox(key=seed).random_raw(-(-rows // n) * n)
    order = numbers.reshape(-1, n).argsort(axis=1, kind="stable").reshape(-1)[:rows]
    return index, np.array(labels)[order], seed * SEEDS_PER_RUN + index


def digest(numbers: Iterable[int]) -> str:
    """SHA-256 of the numbers, one per line."""
    return hashlib.sha256("".join(f"{number}\n" for number in numbers).encode()).hexdigest()


def contradiction(settings: Mapping[str, Any], reseed: bool, rows: Iterable[Mapping[str, str]]) -> str | None:
    """How all rows of an arm's manifest contradict the settings of the run, in words; None if they do not.

    Args:
        settings: of the run, checked.
        reseed: whether the arm has other seeds.
        rows: of the manifest, checked.
    """
    index, label, seed = np.array([[int(row[name]) for name in ("index", "label", "seed")] for row in rows]).T
    seed = seed - (RESEED_OFFSET if reseed else 0)
    listed = settings["labels"]
    if isinstance(listed, dict):
        order = index.argsort()
        for name, found in (("label", label), ("seed", seed)):
            if listed.get(f"{name}_sha256") not in (None, digest(found[order])):
                return f"column {name}: expected the numbers whose digest settings.yaml has, got others"
        return None
    _, labels, seeds = shuffled(listed, settings["seed"], len(listed) * settings["images_per_class"])
    for name, found, expected in (("label", label, labels[index]), ("seed", seed, seeds[index])):
        wrong = np.flatnonzero(found != expected)
        if len(wrong):
            first, offset = wrong[0], RESEED_OFFSET if reseed and name == "seed" else 0
            return (
                f"index {index[first]}: {name}: expected {expected[first] + offset}, as settings.yaml has it, got "
                f"{found[first] + offset}"
            )
    return None
