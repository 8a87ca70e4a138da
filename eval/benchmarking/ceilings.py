"""What this machine reaches at most: the rate of a large copy and of large matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch

from eval.benchmarking.roofline import Ceilings, dtype_name

# On a GPU larger ones, so that the launch does not count; on a CPU the copy must be larger than its caches.
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
LEAST_TRIES, LEAST_SECONDS = 3, 0.4


def measure_ceilings(device: torch.device, dtypes: Iterable[torch.dtype]) -> Ceilings:
    """Measures both in this process; the best of several tries, which the machine is left to itself for.

    Args:
        device: where the models are.
        dtypes: those of the weights.
    """
    rates = {dtype_name(dtype): _matrix_rate(device, dtype) for dtype in dict.fromkeys(dtypes)}
    return Ceilings(_copy_rate(device), rates)


def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    side = MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    products: list[Callable[[], object]] = [lambda: torch.mm(a, b)]
    if device.type == "cpu" and dtype == torch.float32 and torch.backends.mkldnn.is_available():
        # in float32 torch takes another library for mm, which some processors run at half the speed
        products.append(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
    return 2 * side**3 / min(_best_seconds(device, product) for product in products)


def _copy_rate(device: torch.device) -> float:
    source = torch.zeros(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return 2 * source.numel() / _best_seconds(device, lambda: target.copy_(source))


def _best_seconds(device: torch.device, work: Callable[[], object]) -> float:
    work()
    taken: list[float] = []
    while len(taken) < LEAST_TRIES or sum(taken) < LEAST_SECONDS:
        started = now(device)
        work()
        taken.append(now(device) - started)
    return min(taken)


def now(device: torch.device) -> float:
    """Seconds, once all work that was given to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
