"""Which rows of a tensor belong to some images of a batch."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(numbers: Sequence[int] | Tensor, device: torch.device) -> Tensor:
    """Numbers, int64 if they are no tensor, on the device. Not to be written to.

    The host does not wait: from ordinary memory it would, for all work that is queued.
    """
    if not isinstance(numbers, Tensor):
        if device.type == "cuda":
            return _kept(tuple(numbers), device)
        return torch.tensor(numbers, dtype=torch.int64).to(device)
    if device.type == "cuda" and numbers.device.type == "cpu":
        return numbers.pin_memory().to(device, non_blocking=True)
    return numbers.to(device)


@functools.lru_cache(maxsize=1024)
def _kept(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """The same groups of images come again and again."""
    with torch.inference_mode(False):
        return to_device(torch.tensor(numbers, dtype=torch.int64), device)


def rows_of(images: Sequence[int], among: Sequence[int], device: torch.device) -> Tensor | slice:
    """Selects ``images`` from tensors with one row for each of ``among``: all by a slice, which copies nothing."""
    if list(images) == list(among):
        return slice(None)
    row = {image: row for row, image in enumerate(among)}
    return to_device([row[image] for image in images], device)
