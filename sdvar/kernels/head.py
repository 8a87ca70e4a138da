"""A Triton kernel for the product of the head: float32 in, float32 out, by tensor cores.

A number is split into two of TF32, its first 11 bits and the next 11, and the product is the sum of three: low by high,
high by low, high by high. Tensor cores cut off what they add up, towards zero, so they add `DEPTH` terms at a time
alone; the sums of these are rounded as any of float32. By emulation that is as exact as torch's float32 product, where
three products of bfloat16 are not (Ootomo and Yokota 2022, "Recovering single precision accuracy from Tensor Cores").

Each result is made from its row and column alone, in an order that is compiled in, so that its bits do not depend on
what else is in the call.

Importing this module needs Triton; `sdvar.kernels.selection` says where it runs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

# Compute capabilities whose tensor cores multiply TF32 at more than three times the rate of float32: A100, H100
CAPABILITIES = ((8, 0), (9, 0))
DEPTH = 16  # terms that are added up by tensor cores


class Tile(NamedTuple):
    """Results of one program.

    Attributes:
        rows, columns: how many of each.
        warps: of 32 threads.
        stages: of the loads that run ahead.
    """

    rows: int
    columns: int
    warps: int
    stages: int


SMALL, LARGE = Tile(64, 64, 4, 4), Tile(128, 128, 8, 3)
LARGE_FROM = 1024  # rows; with less, large tiles would leave multiprocessors without work


@triton.jit
def _split(x):
    """Two numbers whose sum is x: its first 11 bits, rounded, and the rest."""
    high = ((x.to(tl.uint32, bitcast=True) + 0x1000) & 0xFFFFE000).to(tl.float32, bitcast=True)
    return high, x - high


@triton.jit(do_not_specialize=["rows"])
def head_kernel(
    h, weight, bias, logits, rows,
    C: tl.constexpr, V: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """One tile per program, those that share rows after one another; the arguments are those of `product`."""
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    lane = tl.arange(0, DEPTH)
    of_row, of_column = (row < rows)[:, None], (column < V)[None, :]
    left = h + row[:, None].to(tl.int64) * C + lane[None, :]
    right = weight + column[None, :].to(tl.int64) * C + lane[:, None]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, C, DEPTH):
        inside = start + lane < C
        a_high, a_low = _split(tl.load(left + start, mask=of_row & inside[None, :], other=0.0))
        b_high, b_low = _split(tl.load(right + start, mask=of_column & inside[:, None], other=0.0))
        small = tl.dot(a_low, b_high, tl.dot(a_high, b_low, input_precision="tf32"), input_precision="tf32")
        total += tl.dot(a_high, b_high, small, input_precision="tf32")
    total += tl.load(bias + column, mask=column < V, other=0.0)[None, :]
    tl.store(logits + row[:, None].to(tl.int64) * V + column[None, :], total, mask=of_row & of_column)


def product(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """h W^T + b.

    Args:
        h: float32 (rows, C).
        weight, bias: float32 (V, C) and (V,).

    Returns:
        float32 (rows, V).
    """
    (rows, width), columns = h.shape, len(weight)
    h, weight = h.contiguous(), weight.contiguous()
    logits = h.new_empty(rows, columns)
    tile = LARGE if rows >= LARGE_FROM else SMALL
    with torch.cuda.device_of(h):
        head_kernel[(triton.cdiv(columns, tile.columns), triton.cdiv(rows, tile.rows))](
            h, weight, bias, logits, rows, C=width, V=columns, ROWS=tile.rows, COLUMNS=tile.columns, DEPTH=DEPTH,
            num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=False,
        )  # fmt: skip
    return logits
