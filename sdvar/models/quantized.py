"""Linear layers whose weights are rounded to a few bits by torchao, which is imported when the first one is made."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdvar.models.dtypes import DTYPES
from sdvar.models.layers import elementwise
from sdvar.models.layers.linear import product
from sdvar.system.command_line import needs

log = logging.getLogger("sdvar.quantized")

GROUP = 32  # weights of a row that share a scale in int4; a row has one scale in int8 and fp8
ROWS = 32  # to whose multiple a GPU's integer product is filled up: it takes no fewer than 17


class QuantizedLinear(nn.Module):
    """A linear layer in the place of a `Linear`, with rounded weights.

    Args:
        weight: (out, in), of float32, bfloat16 or float16, which stays the dtype of inputs and results.
        bias: (out,), if any.
        kind: one of `KINDS`. A dynamic one rounds its inputs as well, each row by its own scale, and multiplies the
            rounded numbers; the others multiply by the weights as the rounding left them.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(KINDS[kind](weight.detach()), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor, bias: Tensor | None = None, gelu: bool = False) -> Tensor:
        """As `Linear.forward`."""
        bias = self.bias if bias is None else bias
        if self.kind == "fp8-dynamic":  # torchao's own
            y = F.linear(x, self.weight, bias)
        elif self.kind == "int8-dynamic":
            y = _rounded_product(x, self.weight, bias)
        elif self.kind == "int8" and x.device.type == "cpu" and x.dtype == torch.bfloat16:
            y = _bfloat16_product(x, self.weight, bias)
        else:
            return product(x, _unrounded(self.weight), bias, gelu)
        return elementwise.gelu(y) if gelu else y

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        # torchao's tensors can be moved, but keep the dtype that they give
        rounded: Any = self.weight
        wanted = fn(torch.empty(0, dtype=rounded.dtype, device=rounded.device))
        names, attributes = rounded.__tensor_flatten__()
        inner = {name: getattr(rounded, name).to(wanted.device) for name in names}
        again = type(rounded).__tensor_unflatten__(inner, attributes | {"dtype": wanted.dtype}, None, None)
        self._parameters["weight"] = None
        super()._apply(fn, recurse)
        self.weight = nn.Parameter(again, requires_grad=False)
        return self

    @property
    def weight_width(self) -> int:
        """Bytes that one weight takes in memory."""
        return cast(Any, self.weight).qdata.element_size()


def check_kind(kind: str, device: torch.device, dtype: torch.dtype, others: tuple[str, ...] = ()) -> None:
    """Raise ValueError unless that device multiplies by weights of that kind, by doing it once.

    Args:
        kind: one of KINDS.
        dtype: of the weights before they are rounded.
        others: what can be asked for instead beside the kinds that do run.
    """
    if lacking := lacks_package():
        raise ValueError(f"draft: target:{kind} {lacking}")
    if not runs(kind, device, dtype):
        able = [f"target:{other}" for other in KINDS if other != kind and runs(other, device, dtype)]
        raise ValueError(
            f"draft: target:{kind} does not run on {device.type} with a target in {dtype}; expected one of "
            f"{', '.join((*able, *others))}"
        )


def check_stated(name: str, kind: str, device: torch.device, dtype: torch.dtype) -> None:
    """Raise ValueError unless that device runs a draft whose file states a rounding; lists the dtypes in which it does.

    Args:
        name: as the error calls the draft.
        kind: one of WEIGHT_KINDS.
        dtype: of the weights before they are rounded.
    """
    told = f"{name}: a draft whose blocks are rounded to {kind}"
    if lacking := lacks_package():
        raise ValueError(f"{told}, which {lacking}")
    if not runs(kind, device, dtype):
        able = ", ".join(str(other) for other in DTYPES.values() if runs(kind, device, other)) or "another device"
        raise ValueError(f"{told}, which does not run on {device.type} in {dtype}; expected {able}")


def lacks_package() -> str:
    """What to do about torchao where it is not installed; empty where it is."""
    try:
        _torchao()
    except ModuleNotFoundError as error:
        return needs(error)
    return ""


def runs(kind: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether that device multiplies by weights of that kind, by doing it once."""
    return _runs(kind, device.type, dtype)


def check_layers(model: object, device: torch.device, others: tuple[str, ...] = ()) -> None:
    """Raise ValueError if the model has a rounded layer that the device cannot run; see `check_kind`."""
    layers = model.modules() if isinstance(model, nn.Module) else ()
    for kind, dtype in {(layer.kind, layer.weight.dtype) for layer in layers if isinstance(layer, QuantizedLinear)}:
        if getattr(model, "rounded_to", None):
            check_stated("draft", kind, device, dtype)
        else:
            check_kind(kind, device, dtype, others)


@functools.cache
def _runs(kind: str, device: str, dtype: torch.dtype) -> bool:
    try:
        layer = QuantizedLinear(torch.eye(64, dtype=dtype), None, kind).to(device)
        layer(torch.zeros(2, 64, dtype=dtype, device=device))
    except Exception as error:  # torchao asserts, torch raises RuntimeErrors and NotImplementedErrors
        log.debug("%s on %s in %s: %s", kind, device, dtype, error)
        return False
    return True


def straight_through(weight: Tensor, kind: str) -> Tensor:
    """The weights as a `QuantizedLinear` of that kind multiplies by them, to the bit, in the dtype of the weights.

    Their gradient is that of the result: the straight-through estimator of Bengio et al. 2013.

    Args:
        weight: (out, in).
        kind: one of WEIGHT_KINDS.
    """
    return _StraightThrough.apply(weight, kind)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, kind: str) -> Tensor:
        return _unrounded(KINDS[kind](weight.detach()))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _unrounded(weight: Any) -> Tensor:
    """The rounded weights as numbers of their first dtype."""
    if weight.scale.shape[-1] > 1:
        return weight.dequantize()
    return weight.qdata.to(weight.dtype).mul_(
        weight.scale.to(weight.dtype)
    )  # three times as fast as torchao's on a CPU


def _bfloat16_product(x: Tensor, weight: Any, bias: Tensor | None) -> Tensor:
    """By a kernel of torch that reads the 8-bit weights themselves; its one for float32 is slow."""
    rows = x.reshape(-1, x.shape[-1])
    y = torch._weight_int8pack_mm(rows, weight.qdata, weight.scale.view(-1).to(x.dtype)).view(*x.shape[:-1], -1)
    return y if bias is None else y + bias


def _rounded_product(x: Tensor, weight: Any, bias: Tensor | None) -> Tensor:
    """x rounded row by row, times W^T, plus b. The sums are of integers, so no row depends on the others."""
    rows = x.reshape(-1, x.shape[-1])
    scale = rows.abs().amax(dim=1, keepdim=True).float().clamp_min(torch.finfo(torch.float32).tiny * 127) / 127
    rounded = (rows / scale).round().to(torch.int8)
    matrix, scales = weight.qdata.t(), weight.scale.view(1, -1)
    if x.device.type == "cpu":
        y = _torchao().kernel.int_scaled_matmul(rounded, matrix, scale)
    else:  # torchao's own call prints its input to look for a word, which no CUDA graph can hold
        filled = F.pad(rounded, (0, 0, 0, -len(rows) % ROWS))
        y = torch._int_mm(filled, matrix)[: len(rows)] * scale
    y = y * scales
    return (y if bias is None else y + bias).to(x.dtype).view(*x.shape[:-1], -1)


@functools.cache
def _torchao() -> ModuleType:
    logger = logging.getLogger("torch.utils._pytree")  # of a deprecation inside torchao that no user can act on
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import torchao.kernel
        import torchao.quantization
    finally:
        logger.setLevel(level)
    return torchao


def _int8(weight: Tensor) -> Tensor:
    ao = _torchao().quantization
    return ao.Int8Tensor.from_hp(weight, granularity=ao.PerRow())


def _int8_dynamic(weight: Tensor) -> Tensor:
    ao = _torchao().quantization
    from torchao.quantization.quantize_.workflows import QuantizeTensorToInt8Kwargs

    inputs = QuantizeTensorToInt8Kwargs(ao.PerRow())
    return ao.Int8Tensor.from_hp(weight, granularity=ao.PerRow(), act_quant_kwargs=inputs)


def _int4(weight: Tensor) -> Tensor:
    return _torchao().quantization.IntxUnpackedToInt8Tensor.from_hp(
        weight, (1, math.gcd(weight.shape[1], GROUP)), cast(Any, torch).int4
    )


def _fp8(weight: Tensor) -> Tensor:
    ao = _torchao().quantization
    return ao.Float8Tensor.from_hp(weight, granularity=ao.PerRow())


def _fp8_dynamic(weight: Tensor) -> Tensor:
    ao = _torchao().quantization
    from torchao.quantization.quantize_.workflows import QuantizeTensorToFloat8Kwargs

    # a GPU's product with one scale per row gives bfloat16 alone
    granularity = ao.PerRow() if weight.dtype == torch.bfloat16 else ao.PerTensor()
    inputs = QuantizeTensorToFloat8Kwargs(torch.float8_e4m3fn, granularity)
    return ao.Float8Tensor.from_hp(weight, granularity=granularity, act_quant_kwargs=inputs)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "int8": _int8,
    "int8-dynamic": _int8_dynamic,
    "int4": _int4,
    "fp8": _fp8,
    "fp8-dynamic": _fp8_dynamic,
}
WEIGHT_KINDS = tuple(kind for kind in KINDS if not kind.endswith("-dynamic"))  # inputs keep their numbers
