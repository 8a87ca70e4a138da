"""Linear layers; on a CPU in float32 by oneDNN, whose products are up to twice as fast as those of torch's default."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b: (..., in), (out, in), (out,) -> (..., out)."""
    trains = torch.is_grad_enabled() and (weight.requires_grad or x.requires_grad)
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if ONEDNN and plain and not trains and x.numel():
        # not by timing both: which one a process takes must not depend on chance, since they round differently
        return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def _has_onednn() -> bool:
    try:
        x = torch.eye(2)
        return torch.equal(torch.ops.mkldnn._linear_pointwise(x, x, x[0], "none", [], ""), F.linear(x, x, x[0]))
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):  # another build or version of torch
        return False


ONEDNN = torch.backends.mkldnn.is_available() and _has_onednn()


class Linear(nn.Linear):
    """nn.Linear by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
