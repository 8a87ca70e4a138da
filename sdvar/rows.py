"""Which rows of a tensor belong to some images of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(numbers: Sequence[int], device: torch.device) -> Tensor:
    """int64 (n,) on the device. The host does not wait: from ordinary memory it would, for all work that is queued."""
    tensor = torch.tensor(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def rows_of(images: Sequence[int], among: Sequence[int], device: torch.device) -> Tensor | slice:
    """Selects ``images`` from tensors with one row for each of ``among``: all by a slice, which copies nothing."""
    if list(images) == list(among):
        return slice(None)
    row = {image: row for row, image in enumerate(among)}
    return to_device([row[image] for image in images], device)
