"""Which images a step trains on: each has a number, and its seed and its class follow from that."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdvar import noise

# beyond the seeds of runs, of reseeded arms and of the planner: no image that is measured was trained on
TRAINING, PER_RUN, HELD_OUT = 2**60, 2**40, 2**62
MOST_SEEDS = 2**20


@dataclass(frozen=True)
class Images:
    """The images of a training.

    Args:
        seed: of the run, 0 .. 2^20 - 1.
        classes: of the target.
        together: images of a batch, in one process.
        rank, world: of this process, and how many there are.

    Batch m of all processes together holds the images m world together .. (m + 1) world together - 1, so the images of
    a step depend on their number alone and not on the processes that share them.
    """

    seed: int
    classes: int
    together: int
    rank: int = 0
    world: int = 1

    def numbers(self, batch: int) -> Tensor:
        """Of this process' part of a batch: int64 (together,)."""
        return (batch * self.world + self.rank) * self.together + torch.arange(self.together)

    def training(self, batch: int) -> tuple[Tensor, Tensor]:
        """Labels and seeds of this process' part of a batch, int64 (together,) each."""
        return self.of(self.numbers(batch))

    def of(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Labels and seeds of images by number, int64 (n,) each."""
        seeds = TRAINING + self.seed * PER_RUN + numbers
        return labels_of(seeds, self.classes), seeds


def held_out(count: int, rank: int, world: int, together: int) -> list[tuple[int, ...]]:
    """Numbers of a process' held-out images, the same for every run, in batches; none is empty."""
    own = range(rank, count, world)
    return [tuple(own[start : start + together]) for start in range(0, len(own), together)]


def held_out_images(numbers: tuple[int, ...], classes: int) -> tuple[Tensor, Tensor]:
    """Their labels and seeds, int64 (n,) each."""
    seeds = HELD_OUT + torch.tensor(numbers)
    return labels_of(seeds, classes), seeds


def labels_of(seeds: Tensor, classes: int) -> Tensor:
    """A class for each seed, all of them alike: int64 (n,)."""
    return noise.uniform(seeds, "label", 0, 1, 1, torch.float64)[:, 0, 0].mul(classes).long()
