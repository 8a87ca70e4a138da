"""How float32 products are rounded on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    """Matrix products and convolutions in float32 with TF32 or without it; what was set before is put back.

    By default torch allows it for convolutions: then their results depend on the algorithm that it selects by shape.

    Args:
        allowed: whether the factors may be rounded to TF32 (10 bits instead of 23). No effect on a CPU.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    # Not the newer fp32_precision: set to tf32, torch.get_float32_matmul_precision, which Lightning reads, fails
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
