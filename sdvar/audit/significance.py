"""From statistics to p-values and intervals."""

from __future__ import annotations

import math

from torch import Tensor

NORMAL_95 = 1.959964
Estimate = tuple[float, tuple[float, float]]  # a value and its 95 % interval


def normal_p_value(z: float) -> float:
    """Two-sided, of a standard normal z."""
    return math.erfc(abs(z) / math.sqrt(2))


def kolmogorov_p_value(distance: float, count: int) -> float:
    """Of the largest difference between the distribution function of so many uniform numbers and the identity.

    Kolmogorov's limit with the correction of Stephens (1970), good to a few per cent from 10 numbers on.
    """
    root = math.sqrt(count)
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.3:  # the series converges slowly, and what it says is 1
        return 1.0
    terms = (2 * (-1) ** (j - 1) * math.exp(-2 * (j * scaled) ** 2) for j in range(1, 101))
    return min(1.0, max(0.0, math.fsum(terms)))


def adjusted(p_values: list[float]) -> float:
    """The smallest of several p-values, times their number (Bonferroni): a p-value of all of them together."""
    return min(1.0, len(p_values) * min(p_values))


def ratio(numerators: Tensor, denominators: Tensor) -> Estimate:
    """The sum of numerators over that of denominators, float64 (N,) each, with an interval over the N units.

    By the delta method; with one unit the interval has no width.
    """
    value = float(numerators.sum() / denominators.sum())
    if len(numerators) < 2:
        return value, (value, value)
    residuals = numerators - value * denominators
    error = NORMAL_95 * float(residuals.std() / denominators.mean()) / math.sqrt(len(numerators))
    return value, (value - error, value + error)
