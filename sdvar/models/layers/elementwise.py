"""Functions of single numbers whose bits do not depend on how many numbers there are.

On a CPU torch computes SiLU and GELU by vectors of numbers, and the rest at the end of what a thread has by scalar
functions that round otherwise. So the last bit of a number would follow its place. exp, tanh and the four operations
round alike in both.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def silu(x: Tensor) -> Tensor:
    """x / (1 + exp(-x)) of each number."""
    if not _by_parts(x):
        return F.silu(x)
    wide = _wide(x)
    return wide.div(wide.neg().exp_().add_(1)).to(x.dtype)


def gelu(x: Tensor) -> Tensor:
    """The tanh form of GELU of each number (Hendrycks and Gimpel 2016)."""
    if not _by_parts(x):
        return F.gelu(x, approximate="tanh")
    wide = _wide(x)
    inner = wide.square().mul_(wide).mul_(0.044715).add_(wide).mul_(math.sqrt(2 / math.pi))
    return inner.tanh_().add_(1).mul_(wide).mul_(0.5).to(x.dtype)


def _by_parts(x: Tensor) -> bool:
    """On a CPU; not in training and torch.compile, whose bits nothing depends on."""
    learning = torch.is_grad_enabled() and x.requires_grad
    return x.device.type == "cpu" and not learning and not torch.compiler.is_compiling()


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize < 4 else x
