"""95 % intervals of metrics over images and batches.

Resampling images for each of hundreds of draws would take a covariance each. A metric that is smooth in the images'
distribution need not: to first order it is a mean over the images of its influence, one number per image, whose
bootstrap distribution is normal with the standard error of that mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

NORMAL_95 = 1.959964
DRAWS = 2_000
SEED = 2020
NUMBERS_TOGETHER = 1 << 22
Interval = list[float]  # low, high


def around(value: float, error: float) -> Interval:
    """The interval of a value with that standard error."""
    return [value - NORMAL_95 * error, value + NORMAL_95 * error]


def stated(key: str, interval: Interval, count: int) -> dict[str, Interval]:
    """A metric's interval under its key; none where there is one image or batch, whose spread nobody knows."""
    return {f"{key}_interval": list(interval)} if count > 1 else {}


def standard_error(influences: np.ndarray) -> float:
    """Of a mean of influences (N,); 0 for a single image."""
    return float(influences.std(ddof=1)) / math.sqrt(len(influences)) if len(influences) > 1 else 0.0


def of_share(share: float, count: int) -> Interval:
    """Of a share of so many images (Wilson, 1927)."""
    z2 = NORMAL_95**2 / count
    middle, half = (share + z2 / 2) / (1 + z2), math.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
    return [max(0.0, middle - half), min(1.0, middle + half)]


def bootstrap(values: Sequence[float], statistic: Callable[[np.ndarray], np.ndarray]) -> Interval:
    """Percentiles over resampled values, the same ones in every run.

    Args:
        values: (n,).
        statistic: of the last dimension, (draws, n) -> (draws,).
    """
    numbers = np.asarray(values, dtype=np.float64)
    generator, count = np.random.default_rng(SEED), len(numbers)
    together = max(1, NUMBERS_TOGETHER // count)
    draws = [min(together, DRAWS - done) for done in range(0, DRAWS, together)]
    found = [statistic(numbers[generator.integers(count, size=(some, count))]) for some in draws]
    low, high = np.percentile(np.concatenate(found), [2.5, 97.5])
    return [float(low), float(high)]
