"""Which images of a batch: numbers of the host, as the device takes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(numbers: Sequence[int], device: torch.device) -> Tensor:
    """int64 (n,) on the device. The host does not wait: from ordinary memory it would, for all work that is queued."""
    tensor = torch.tensor(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def rows_of(images: Sequence[int], batch: int, device: torch.device) -> Tensor | slice:
    """Selects ascending ``images`` from tensors of a batch: all by a slice, which copies nothing, else by rows."""
    return slice(None) if len(images) == batch else to_device(images, device)
