"""The kernels of a block, and that of f-hat, beside torch's operations, on random numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor

from sdvar.kernels import reference
from sdvar.models.kv_cache import CacheWindow, LayerCache

# Of a result, relative to its largest number: some roundings of float32; in 16 bits a last digit, of the one cast
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
ROWS, TOKENS = 2, 2


def problems(
    kernels: ModuleType,
    device: torch.device,
    dtype: torch.dtype,
    width: int,
    heads: int,
    rows: int = ROWS,
    tokens: int = TOKENS,
) -> list[str]:
    """What is wrong with the kernels of a block, in one line each; empty where all is well.

    Args:
        kernels: the module `sdvar.kernels.blocks`.
        device, dtype: of the blocks' weights.
        width, heads: C, attention heads.
        rows, tokens: n and T of the pass that is tried.
    """
    errors: dict[str, float] = {}
    with torch.no_grad():
        results = (list(_results(each, device, dtype, width, heads, rows, tokens)) for each in (kernels, reference))
        for (name, ours), (_, expected) in zip(*results, strict=True):
            errors[name] = max(_error(ours, expected), errors.get(name, 0.0))
    limit = LIMITS[dtype]
    return [f"{name}: off by {error:.2g}, limit {limit:.2g}" for name, error in errors.items() if error > limit]


def _results(
    kernels: ModuleType, device: torch.device, dtype: torch.dtype, width: int, heads: int, n: int, tokens: int
) -> Iterator[tuple[str, Tensor]]:
    """Names and results of all kernels, always of the same numbers."""
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    x, branch = 2 * numbers(n, tokens, width, dtype=torch.float32) + 1, numbers(n * tokens, width)
    gain, scale, shift = numbers(n, 2, 3, 1, width)[:, 1].unbind(1)  # of the second of two layers
    yield "norm", kernels.modulated(x, scale, shift, dtype)
    yield "norm of a sum", kernels.added(x, branch, gain, scale, shift, dtype)
    kernels.add(x, branch, gain)
    yield "sum", x

    qkv, biases = numbers(n * tokens, 3 * width), (numbers(width), numbers(width), numbers(width))
    log_scales = 2 * numbers(1, heads, 1, 1, dtype=torch.float32) + 4  # some above the limit
    cache_rows, start = torch.arange(n, 0, -1).to(device), 2
    for scales, chosen in ((log_scales, None), (log_scales, cache_rows), (None, cache_rows)):
        held = n if chosen is None else n + 1
        cache = LayerCache(*(numbers(held, heads, start + tokens + 1, width // heads) for _ in range(2)))
        yield "queries", kernels.heads(qkv, biases, scales, n, cache, CacheWindow(chosen, 0, start, start + tokens))
        yield from zip(("keys", "values"), cache)


def f_hat_problems(kernel: ModuleType, device: torch.device) -> list[str]:
    """What is wrong with the kernel of f-hat, `sdvar.kernels.f_hat`, as that of `problems`."""
    generator, found = torch.Generator().manual_seed(0), []
    for batch, channels, side in ((2, 32, 16), (1, 5, 3)):
        f_hat, h = (torch.randn(batch, channels, side, side, generator=generator).to(device) for _ in range(2))
        convolved = torch.randn(batch, side, side, channels, generator=generator).to(device).permute(0, 3, 1, 2)
        if not torch.equal(kernel.added(f_hat, h, convolved), torch.add(f_hat, h + convolved, alpha=0.5)):
            found.append(f"f-hat of {channels} channels: other numbers than torch's")
    return found


def _error(ours: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest number; infinite where a number is not finite."""
    error = ((ours.float() - expected.float()).abs().max() / expected.float().abs().max()).item()
    return error if math.isfinite(error) else math.inf
