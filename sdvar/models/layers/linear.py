"""Linear layers whose rows do not depend on the rows beside them; on a CPU by oneDNN, up to twice as fast as ATen."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdvar.models.layers import elementwise
from sdvar.models.layers.invariant import BLOCKS, RowBlocks
from sdvar.models.layers.packing import Packed

ROWS = 64  # for which the copy's order is chosen; the same is the best for 2 and for 2,048
TRIED = 256  # different rows in a trial


class Linear(Packed, nn.Linear):
    """nn.Linear, row by row the same bits for any number of rows (see `product`).

    Args:
        in_features, out_features, bias: as nn.Linear.
        packed: keep a second copy of bfloat16 weights, see `sdvar.models.layers.packing.Packed`: reordering them in
            every call takes as long as the product itself for the few tokens of a coarse scale.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, packed: bool = False) -> None:
        super().__init__(in_features, out_features, bias)
        self.packed = packed

    def forward(self, x: Tensor, bias: Tensor | None = None, gelu: bool = False) -> Tensor:
        """x W^T + b, and GELU (its tanh form) of that if ``gelu``: (..., in) -> (..., out).

        Args:
            x: (..., in).
            bias: (out,) in the place of the layer's own.
            gelu: whether to apply it.
        """
        copy = self._packed() if self.copies and _plain(x, self.weight) else None
        return product(x, self.weight, self.bias if bias is None else bias, gelu, copy)

    def _reordered(self) -> Tensor:
        return torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), ROWS)

    @property
    def copies(self) -> bool:
        on_cpu = self.weight.device.type == "cpu"
        return self.packed and on_cpu and self.weight.dtype == torch.bfloat16 and torch.bfloat16 in onednn_dtypes()


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False, copy: Tensor | None = None
) -> Tensor:
    """x W^T + b, and GELU (its tanh form) of that if ``gelu``: (..., in) -> (..., out).

    Outside of training, autocast and torch.compile, the bits of a row depend on that row, the weights, the machine, its
    libraries and the number of threads alone, see `sdvar.models.layers.invariant`.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,), if any.
        copy: the weights in oneDNN's order, if there is such a copy.
    """
    if not _plain(x, weight):
        return _call(x, weight, bias, gelu)
    how, rows = _how(x, bias, gelu), x.numel() // x.shape[-1]
    kernel = x.device, x.dtype, weight.shape, bias is not None, gelu, how, copy is not None, _precision(x)
    calls = _row_blocks(kernel, torch.get_num_threads()).calls(rows)
    weight = weight if copy is None else copy
    x_rows = x.reshape(rows, -1)
    parts = [_call(_filled(x_rows[a : a + n], n), weight, bias, gelu, how)[: rows - a] for a, n in calls]
    y = parts[0] if len(parts) == 1 else torch.cat(parts)
    return y.view(*x.shape[:-1], -1)


@functools.cache
def _row_blocks(kernel: tuple, threads: int) -> RowBlocks:
    """By all that decides how a product adds, but for the number of rows."""
    device, dtype, shape, has_bias, gelu, how, reordered, _ = kernel

    def numbers(seed: int, *shape: int) -> Tensor:
        generator = torch.Generator("cpu").manual_seed(seed)
        made = torch.float64 if dtype == torch.float64 else torch.float32
        return torch.empty(shape, dtype=made, device="cpu").uniform_(-1, 1, generator=generator).to(device, dtype)

    # Terms that cancel, at random places: what is left of a sum is its rounding, which shows in every dtype
    outputs, inputs = shape
    half = inputs // 2
    places = torch.randperm(2 * half, generator=torch.Generator("cpu").manual_seed(2), device="cpu").to(device)

    def cancelling(values: Tensor, sign: int) -> Tensor:
        return F.pad(torch.cat((values, sign * values), dim=1)[:, places], (0, inputs % 2))

    def make():
        weight = cancelling(numbers(0, outputs, half), -1)
        bias = weight.new_zeros(outputs) if has_bias else None  # any other number would hide what is left of a sum
        if reordered:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        return lambda rows: _call(rows, weight, bias, gelu, how)

    return RowBlocks(make, cancelling(numbers(1, TRIED, half), 1))


def _how(x: Tensor, bias: Tensor | None, gelu: bool) -> str:
    """By what a product is computed; "epilogue" is cuBLASLt, whose products of 16 bits end in GELU's tanh form."""
    if x.device.type == "cpu":
        return "onednn" if x.dtype in onednn_dtypes() else "aten"
    return "epilogue" if gelu and bias is not None and x.dtype.itemsize == 2 else "aten"


def _call(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool, how: str = "aten") -> Tensor:
    if how == "epilogue" and bias is not None:
        return torch._addmm_activation(bias, x, weight.t(), use_gelu=True)
    if how == "onednn":
        activation: tuple[str, list, str] = ("gelu", [], "tanh") if gelu else ("none", [], "")
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *activation)
    y = F.linear(x, weight, bias)
    return elementwise.gelu(y) if gelu else y


def _filled(rows: Tensor, size: int) -> Tensor:
    """So many rows, side by side as in the trials: torch takes other kernels for other strides."""
    if len(rows) == size:
        return rows.contiguous()
    if rows.is_cuda:  # one launch in place of two: no result depends on what the other rows hold
        filled = rows.new_empty(size, rows.shape[1])
        filled[: len(rows)] = rows
        return filled
    return F.pad(rows, (0, 0, 0, size - len(rows)))


def _plain(x: Tensor, weight: Tensor) -> bool:
    """Whether nothing stands between a call and its result: no training, no compiler, no autocast."""
    if torch.compiler.is_compiling():  # the compiler has its own way to pack weights and to fuse what follows
        return False
    if torch.is_grad_enabled() and (weight.requires_grad or x.requires_grad):
        return False
    device = x.device.type
    return device in BLOCKS and x.dtype == weight.dtype and not torch.is_autocast_enabled(device) and x.numel() > 0


def _precision(x: Tensor) -> tuple[bool, ...]:
    """What a GPU is allowed to round inside of products."""
    if not x.is_cuda:
        return ()
    matmul = torch.backends.cuda.matmul
    return (
        matmul.allow_tf32,
        matmul.allow_bf16_reduced_precision_reduction,
        matmul.allow_fp16_reduced_precision_reduction,
    )


@functools.cache
def onednn_dtypes() -> frozenset[torch.dtype]:
    """Those that oneDNN multiplies on this machine with this build of torch.

    Probed on first use, not at import: the probe starts OpenMP's threads, which do not survive a fork of the process.
    """
    if not torch.backends.mkldnn.is_available():
        return frozenset()
    with torch.autocast("cpu", enabled=False):
        return frozenset(dtype for dtype in (torch.float32, torch.bfloat16) if _runs(dtype))


def _runs(dtype: torch.dtype) -> bool:
    try:
        x = torch.eye(32, dtype=dtype, device="cpu")
        if dtype == torch.bfloat16:
            if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
                return False
            torch.ops.mkldnn._linear_pointwise(
                x, torch.ops.mkldnn._reorder_linear_weight(x, ROWS), x[0], "none", [], ""
            )
        product = torch.ops.mkldnn._linear_pointwise(x, x, x[0], "gelu", [], "tanh")
        return torch.allclose(product, F.gelu(F.linear(x, x, x[0]), approximate="tanh"), atol=1e-2)
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):  # another build or version of torch
        return False
