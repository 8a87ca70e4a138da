"""The kernel of the head beside torch's float32 product, on random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 96  # different ones
LIMIT = 2.0  # of the kernel's error, in errors of torch's product
ROOM = 1e-9  # relative to the largest result, for products that are exact by either


def problems(kernel: ModuleType, device: torch.device, width: int, columns: int) -> list[str]:
    """What is wrong with the kernel, in one line each; empty where all is well.

    Args:
        kernel: the module `sdvar.kernels.head`.
        device: of the head.
        width, columns: C, V.
    """
    found = []
    with torch.no_grad():
        for name, rows, weight, bias in _numbers(device, width, columns):
            exact = F.linear(rows.double(), weight.double(), bias.double())
            ours = kernel.product(rows, weight, bias)
            with _full_float32():
                limit = LIMIT * _error(F.linear(rows, weight, bias), exact) + ROOM * exact.abs().max().item()
            if not (error := _error(ours, exact)) <= limit:  # also NaN
                found.append(f"{name}: off by {error:.2g}, limit {limit:.2g}")
            repeats = -(-kernel.LARGE_FROM // ROWS)
            large = kernel.product(rows.flip(0).repeat(repeats, 1), weight, bias)
            if not torch.equal(large[-ROWS:].flip(0), ours):
                found.append(f"{name}: a row's numbers change with the rows beside it")
    return found


def _numbers(device: torch.device, width: int, columns: int) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Rows, weights and bias: of independent numbers, and of terms that cancel."""
    generator, shapes = torch.Generator().manual_seed(0), ((ROWS, width), (columns, width), (columns,))
    rows, weight, bias = (torch.randn(shape, generator=generator) for shape in shapes)
    yield "random rows", rows.to(device), weight.to(device), bias.to(device)
    half, rows, weight = width // 2, rows.clone(), weight.clone()
    rows[:, half : 2 * half] = rows[:, :half] * (1 + 1e-3 * rows[:, half : 2 * half])
    weight[:, half : 2 * half] = -weight[:, :half]
    yield "rows that cancel", rows.to(device), weight.to(device), torch.zeros_like(bias).to(device)


def _error(ours: Tensor, exact: Tensor) -> float:
    """Root of the mean square."""
    return (ours - exact).square().mean().sqrt().item()


@contextmanager
def _full_float32() -> Iterator[None]:
    """Within it torch's float32 products are not of TF32."""
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        yield
    finally:
        matmul.allow_tf32 = before
