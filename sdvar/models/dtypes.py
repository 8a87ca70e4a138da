"""The number formats that models can have, and which of them a device multiplies fastest."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO: Literal["auto"] = "auto"
AMPERE = 8  # the first compute capability whose products of bfloat16 are in hardware


class ChosenDtype(NamedTuple):
    """A dtype, and why it was chosen in words."""

    dtype: torch.dtype
    reason: str


def choose_dtype(device: str | torch.device) -> ChosenDtype:
    """bfloat16 where the device multiplies it in hardware, else float32.

    By what the device is, and by no measurement: it is the same on every machine of a kind. What is lossless is that in
    both. float16 is not chosen: activations of a VAR can leave its range.
    """
    device = torch.device(device)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        if properties.major >= AMPERE:
            return ChosenDtype(torch.bfloat16, f"{properties.name} multiplies it in hardware")
        return ChosenDtype(torch.float32, f"{properties.name} has no products of bfloat16 in hardware")
    if device.type == "cpu":
        supported = {"AMX": torch.cpu._is_amx_tile_supported, "AVX-512 BF16": torch.cpu._is_avx512_bf16_supported}
        for name, is_supported in supported.items():
            if is_supported():
                return ChosenDtype(torch.bfloat16, f"this CPU has {name}")
        return ChosenDtype(torch.float32, f"this CPU has neither {' nor '.join(supported)}")
    return ChosenDtype(torch.float32, f"nothing is known of products on {device.type}")


def as_dtype(dtype: torch.dtype | Literal["auto"], device: str | torch.device) -> torch.dtype:
    """The dtype itself, or what `choose_dtype` takes for "auto"; ValueError for another one."""
    if isinstance(dtype, str) and dtype == AUTO:
        return choose_dtype(device).dtype
    if dtype not in DTYPES.values():
        raise ValueError(f"dtype: expected one of {', '.join(map(str, DTYPES.values()))}, or 'auto'; got {dtype!r}")
    return dtype
