"""What runs by the project's kernels: on a GPU where they compile and give what torch's operations give."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import torch

from sdvar import noise
from sdvar.sampling import Sampling, pick

log = logging.getLogger("sdvar.kernels")

PICK, BLOCKS, HEAD, F_HAT = PARTS = "pick", "blocks", "head", "f_hat"
_without: ContextVar[frozenset[str]] = ContextVar("kernels_that_are_off", default=frozenset())


@contextmanager
def torch_alone(*parts: str) -> Iterator[None]:
    """Within a block of code torch's operations do all work, so that a kernel can be compared.

    Args:
        parts: of the work, from `PARTS`, if others may go on running by a kernel.
    """
    token = _without.set(_without.get() | set(parts or PARTS))
    try:
        yield
    finally:
        _without.reset(token)


def fused_pick(device: torch.device, dtype: torch.dtype, vocabulary: int) -> Callable[..., Any] | None:
    """`sdvar.kernels.pick.pick` where it can pick from such logits, else None: torch's operations do the same then.

    The first call on a device tries the kernel and logs one line if it does not run.

    Args:
        device, dtype: of the logits.
        vocabulary: V.
    """
    if device.type != "cuda" or dtype != torch.float32 or PICK in _without.get():
        return None
    return _tried(device, vocabulary)


def fused_blocks(device: torch.device, dtype: torch.dtype, width: int, heads: int) -> ModuleType | None:
    """`sdvar.kernels.blocks` where blocks of this kind can run by it, else None: torch's operations do the same then.

    The first call for such blocks tries the kernels; a device on which they do not run is logged once.

    Args:
        device: of the blocks.
        dtype: of their weights; the residual stream is float32.
        width, heads: C, attention heads.
    """
    allowed = device.type == "cuda" and dtype != torch.float64 and BLOCKS not in _without.get()
    return _tried_blocks(device, dtype, width, heads) if allowed else None


def fused_head(device: torch.device, width: int, columns: int) -> Callable[..., Any] | None:
    """`sdvar.kernels.head.product` where a float32 head can multiply by it, else None: torch's product does then.

    The first call for such a head tries the kernel; a device on which it does not run is logged once.

    Args:
        device: of the head.
        width, columns: C, V.
    """
    return None if device.type != "cuda" or HEAD in _without.get() else _tried_head(device, width, columns)


def fused_f_hat(device: torch.device, dtype: torch.dtype) -> Callable[..., Any] | None:
    """`sdvar.kernels.f_hat.added` where it runs, else None: torch's operations give the same bits in more launches.

    Args:
        device, dtype: of f-hat.
    """
    return None if device.type != "cuda" or dtype != torch.float32 or F_HAT in _without.get() else _tried_f_hat(device)


@functools.cache
def _tried(device: torch.device, vocabulary: int) -> Callable[..., Any] | None:
    try:
        from sdvar.kernels import pick as kernel

        if vocabulary > kernel.LARGEST_VOCABULARY:
            raise ValueError(f"its largest vocabulary is {kernel.LARGEST_VOCABULARY}, this one has {vocabulary}")
        _try(kernel, device, vocabulary)
    except Exception as error:  # no Triton, no C compiler, a driver that is too old, each with an error of its own
        _say("tokens are picked by torch's operations, which take longer; the kernel does not run", error)
        return None
    return kernel.pick


@functools.cache
def _tried_blocks(device: torch.device, dtype: torch.dtype, width: int, heads: int) -> ModuleType | None:
    try:
        from sdvar.kernels import blocks, trial

        if width > blocks.LARGEST_WIDTH:
            raise ValueError(f"their largest width is {blocks.LARGEST_WIDTH}, this model's is {width}")
        if problems := trial.problems(blocks, device, dtype, width, heads):
            raise ValueError("; ".join(problems))
    except Exception as error:  # as above
        _say("blocks run by torch's operations, which take longer; the kernels do not run", error)
        return None
    return blocks


@functools.cache
def _tried_head(device: torch.device, width: int, columns: int) -> Callable[..., Any] | None:
    try:
        from sdvar.kernels import head, head_trial

        if torch.cuda.get_device_capability(device) not in head.CAPABILITIES:
            return None  # as exact there, but slower than torch's
        if problems := head_trial.problems(head, device, width, columns):
            raise ValueError("; ".join(problems))
    except Exception as error:  # as above
        _say("the head multiplies by torch's product, which takes longer; the kernel does not run", error)
        return None
    return head.product


@functools.cache
def _tried_f_hat(device: torch.device) -> Callable[..., Any] | None:
    try:
        from sdvar.kernels import f_hat, trial

        if problems := trial.f_hat_problems(f_hat, device):
            raise ValueError("; ".join(problems))
    except Exception as error:  # as above
        _say("f-hat is summed by torch's operations, in more launches; the kernel does not run", error)
        return None
    return f_hat.added


def _say(what: str, error: Exception) -> None:
    _say_once(f"{what}: {' '.join(str(error).split())[:200]}")


@functools.cache
def _say_once(line: str) -> None:
    log.warning("%s", line)


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
