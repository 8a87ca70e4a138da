"""Global switches of torch that would change tokens, set aside while an image is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def set_aside(device: torch.device) -> Iterator[None]:
    """Autocast, the default device and dtype, and a reduced precision of products have no effect.

    That is oneDNN's of float32 on a CPU, and of the sums of 16-bit products on a GPU, where TF32 is the engine's
    business, see `sdvar.Engine`. On a GPU the models' device is the current one. What was set before is put back.

    Args:
        device: where the models are.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if torch.get_default_device() != torch.device("cpu"):  # the mode costs time in every call of torch
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        if device.type == "cpu":
            stack.enter_context(_full_float32())
        elif device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))  # streams and graphs belong to the current one
            stack.enter_context(_full_sums())
        yield


@contextmanager
def _full_sums() -> Iterator[None]:
    """Sums of 16-bit products in float32 to the end; else parts of a sum may be rounded before they are added."""
    matmul = torch.backends.cuda.matmul
    names = ("allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction")
    before = [(getattr(matmul, name), getattr(matmul, f"{name}_split_k", True)) for name in names]
    for name in names:
        setattr(matmul, name, False)
    try:
        yield
    finally:
        for name, (reduced, split) in zip(names, before):
            setattr(matmul, name, reduced if split else (reduced, split))


@contextmanager
def _full_float32() -> Iterator[None]:
    """Float32 products and convolutions of oneDNN in float32; `torch.set_float32_matmul_precision` can lower both."""
    switches: list[Any] = [getattr(torch.backends.mkldnn, name, None) for name in ("matmul", "conv")]
    switches = [switch for switch in switches if hasattr(switch, "fp32_precision")]
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, precision in zip(switches, before):
            switch.fp32_precision = precision
