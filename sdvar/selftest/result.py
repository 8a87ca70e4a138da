"""What a check returns, and the limits of its number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdvar.decoding.compare import NEAR_TIE

# Rounding: largest difference over largest number. Two ways of computing the same thing differ by about 10 eps in
# float64 and float32 and by 1 to 2 eps in the others, whose sums are kept in float32 (depth 8 and 30). Stale keys, a
# wrong mask or a wrong null branch make differences of 0.15 and more.
ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 2**-4, torch.float16: 2**-7}
# Score gap below which rounding may turn a pick. Reduced precision: twice the rounding (eps) of a logit of 32.
NEAR_TIES = {torch.float64: 0.0, torch.float32: NEAR_TIE, torch.bfloat16: 0.5, torch.float16: 0.0625}


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        number, limit: the measured number and its largest allowed value; NaN if the check could not run.
        meaning: what the number is.
        problems: faults that the number does not show.
        test_name: the tester's method, without ``test_``.
    """

    number: float
    limit: float
    meaning: str = ""
    problems: Sequence[str] = ()
    test_name: str = ""

    @property
    def passed(self) -> bool:
        return self.number <= self.limit and not self.problems  # False for NaN

    @property
    def message(self) -> str:
        """What is wrong, if something is, and what the number is."""
        faults = list(self.problems)
        if not (self.number <= self.limit or math.isnan(self.limit)):
            faults.append(f"{self.number:.2g} is above the limit")
        return ". ".join(filter(None, ("; ".join(faults), self.meaning)))


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the largest absolute number expected (at least 1); NaN if there is one."""
    if ours.shape != expected.shape:
        raise ValueError(f"expected shape {tuple(expected.shape)}, got {tuple(ours.shape)}")
    if not ours.numel():
        return 0.0
    return ((ours - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def largest(numbers: Iterable[float]) -> float:
    """The maximum of numbers >= 0, 0 for none; unlike max(), NaN if there is one."""
    return torch.tensor([0.0, *numbers], dtype=torch.float64).max().item()
