"""Which picks run by the project's kernel: those on a GPU where it compiles and gives what torch's operations give."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from sdvar import noise
from sdvar.sampling import Sampling, pick

log = logging.getLogger("sdvar.kernels")

_allowed = ContextVar("kernels_allowed", default=True)


@contextmanager
def torch_alone() -> Iterator[None]:
    """Within a block of code torch's operations pick the tokens of all decodes, so that a kernel can be compared."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def fused_pick(device: torch.device, dtype: torch.dtype, vocabulary: int) -> Callable[..., Any] | None:
    """`sdvar.kernels.pick.pick` where it can pick from such logits, else None: torch's operations do the same then.

    The first call on a device tries the kernel and logs one line if it does not run.

    Args:
        device, dtype: of the logits.
        vocabulary: V.
    """
    if device.type != "cuda" or dtype != torch.float32 or not _allowed.get():
        return None
    return _tried(device, vocabulary)


@functools.cache
def _tried(device: torch.device, vocabulary: int) -> Callable[..., Any] | None:
    try:
        from sdvar.kernels import pick as kernel

        if vocabulary > kernel.LARGEST_VOCABULARY:
            raise ValueError(f"its largest vocabulary is {kernel.LARGEST_VOCABULARY}, this one has {vocabulary}")
        _try(kernel, device, vocabulary)
    except Exception as error:  # no Triton, no C compiler, a driver that is too old, each with an error of its own
        reason = " ".join(str(error).split())[:200]
        log.warning("tokens are picked by torch's operations, which take longer; the kernel does not run: %s", reason)
        return None
    return kernel.pick


def _try(kernel: Any, device: torch.device, vocabulary: int) -> None:
    """Raise unless the kernel picks from random logits what torch's operations pick."""
    sampling = Sampling(top_k=max(1, vocabulary // 4), top_p=0.9)
    seeds, scale, count = torch.tensor([0, -1], device=device), 1, 8
    numbers = torch.randn(2, count, vocabulary, generator=torch.Generator().manual_seed(0)).to(device)
    places = torch.arange(count, dtype=torch.int32, device=device)
    positions = kernel.Positions(torch.full_like(places, scale), places, None, None)
    picked = kernel.pick(numbers, positions, 0, seeds, sampling)
    gumbel = noise.gumbel(seeds, "pick", scale, count, vocabulary, numbers.dtype)
    if not (picked.finite.all() and torch.equal(picked.tokens, pick(sampling.filtered(numbers), gumbel))):
        raise ValueError("it picks other tokens than torch's operations")
