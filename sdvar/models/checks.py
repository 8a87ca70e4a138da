"""Checks of tensors that users hand to the models. A wrong index would stop a GPU with an error that names nothing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def check_shape(name: str, ids: Tensor, shape: tuple[int, ...]) -> None:
    """Raise TypeError or ValueError unless ``ids`` is an int64 tensor of ``shape``."""
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64:
        raise TypeError(f"{name}: expected an int64 tensor, got {getattr(ids, 'dtype', type(ids).__name__)}")
    if tuple(ids.shape) != shape:
        wanted = "one dimension" if -1 in shape else f"shape {shape}"
        raise ValueError(f"{name}: expected {wanted}, got shape {tuple(ids.shape)}")


def check_range(named: Mapping[str, Tensor], largest: int) -> None:
    """Raise ValueError unless all values of the tensors are 0 .. ``largest``; the host waits for a GPU once."""
    filled = {name: ids for name, ids in named.items() if ids.numel() and not ids.is_meta}
    if not filled:
        return
    ends = torch.stack([torch.stack(ids.aminmax()) for ids in filled.values()]).tolist()
    for name, (low, high) in zip(filled, ends):
        if low < 0 or high > largest:
            raise ValueError(f"{name}: expected values from 0 to {largest}, got {low if low < 0 else high}")
