"""Labels and seeds of what is measured, and the order in which it takes turns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def labels_and_seeds(batch: int, repeat: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs of one run, the same for every runner: labels spread over the classes, other seeds in each run."""
    image = torch.arange(repeat * batch, (repeat + 1) * batch)
    return (image * 97 % classes).to(device), image.to(device)


def rotated(items: Sequence, turn: int) -> list:
    """The items in their order, beginning with another one in each turn, so that drift treats all alike."""
    first = turn % len(items)
    return [*items[first:], *items[:first]]
