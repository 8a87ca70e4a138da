"""Checks of tensors that users hand to the models. A wrong index would stop a GPU with an error that names nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def check_ids(name: str, ids: Tensor, shape: tuple[int, ...], largest: int) -> None:
    """Raise TypeError or ValueError unless ``ids`` is an int64 tensor of ``shape`` with values 0 .. ``largest``."""
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64:
        raise TypeError(f"{name}: expected an int64 tensor, got {getattr(ids, 'dtype', type(ids).__name__)}")
    if tuple(ids.shape) != shape:
        wanted = "one dimension" if -1 in shape else f"shape {shape}"
        raise ValueError(f"{name}: expected {wanted}, got shape {tuple(ids.shape)}")
    if ids.numel() and not ids.is_meta:
        low, high = (value.item() for value in ids.aminmax())
        if low < 0 or high > largest:
            raise ValueError(f"{name}: expected values from 0 to {largest}, got {low if low < 0 else high}")
