"""Linear layers; on a CPU by oneDNN, whose products are up to twice as fast as those of torch's default."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 64  # for which the copy's order is chosen; the same is the best for 2 and for 2,048


class Linear(nn.Linear):
    """nn.Linear by oneDNN on a CPU in float32 and bfloat16, outside of training.

    Args:
        in_features, out_features, bias: as nn.Linear.
        packed: keep a second copy of bfloat16 weights in the order in which oneDNN multiplies, else it reorders them
            in every call, which takes as long as the product itself for the few tokens of a coarse scale. The copy is
            made again when torch counts a change of the weights; after any other, see `refresh`.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, packed: bool = False) -> None:
        super().__init__(in_features, out_features, bias)
        self.packed = packed
        self._copy: tuple[tuple[int, int], Tensor] | None = None  # (address, version) of the weights, their copy

    def forward(self, x: Tensor, bias: Tensor | None = None, gelu: bool = False) -> Tensor:
        """x W^T + b, and GELU (its tanh form) of that if ``gelu``: (..., in) -> (..., out).

        Args:
            x: (..., in).
            bias: (out,) in the place of the layer's own.
            gelu: whether to apply it.
        """
        bias = self.bias if bias is None else bias
        if not self._by_onednn(x):
            y = F.linear(x, self.weight, bias)
            return F.gelu(y, approximate="tanh") if gelu else y
        activation: tuple[str, list, str] = ("gelu", [], "tanh") if gelu else ("none", [], "")
        weight = self._reordered() if self.copies else self.weight
        return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, *activation)

    def _by_onednn(self, x: Tensor) -> bool:
        # not by timing both: which one a process takes must not depend on chance, since they round differently
        weight = self.weight
        trains = torch.is_grad_enabled() and (weight.requires_grad or x.requires_grad)
        if torch.compiler.is_compiling():  # the compiler has its own way to pack weights and to fuse what follows
            return False
        plain = x.device.type == "cpu" and x.dtype == weight.dtype and not torch.is_autocast_enabled("cpu")
        return plain and x.dtype in onednn_dtypes() and not trains and x.numel() > 0

    def _reordered(self) -> Tensor:
        weight = self.weight
        state = weight.data_ptr(), 0 if weight.is_inference() else weight._version
        if self._copy is None or self._copy[0] != state:
            self._copy = None  # before a new one is made, so that two never exist side by side
            self._copy = state, torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        return self._copy[1]

    @property
    def copies(self) -> bool:
        """Whether a second copy of the weights is made when they are first multiplied."""
        on_cpu = self.weight.device.type == "cpu"
        return self.packed and on_cpu and self.weight.dtype == torch.bfloat16 and torch.bfloat16 in onednn_dtypes()

    @property
    def copy_bytes(self) -> int:
        """Bytes of the second copy; 0 as long as there is none."""
        return self._copy[1].numel() * self.weight.element_size() if self._copy else 0

    def _apply(self, *arguments, **keywords) -> Linear:  # moves and converts the weights
        self._copy = None
        return super()._apply(*arguments, **keywords)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_copy": None}  # it can be neither pickled nor copied


def refresh(model: nn.Module) -> None:
    """Drop the second copies of a model's weights after a change that torch does not count.

    Such changes are those under inference mode, through ``weight.data`` and through a NumPy view. All others are seen.
    """
    for layer in model.modules():
        if isinstance(layer, Linear):
            layer._copy = None


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
