"""What a check returns, and the limits of its number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sdvar.decoding.compare import NEAR_TIE
from sdvar.pair import ModelPair

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
        test_name: the tester's method, without ``test_``.
        passed: whether the number is within the limit and nothing else is wrong.
        figure, limit: the measured number and its largest allowed value; NaN if the check could not run.
        message: what the number is, and what is wrong if something is.
    """

    test_name: str
    passed: bool
    figure: float
    limit: float
    message: str


class Measured(NamedTuple):
    """What a check measured.

    Attributes:
        figure, limit: see `CheckResult`.
        meaning: what the number is.
        problems: faults that the number does not show.
    """

    figure: float
    limit: float
    meaning: str
    problems: Sequence[str] = ()

    def judged(self, test_name: str) -> CheckResult:
        """The result of the check of that name."""
        within = self.figure <= self.limit  # False for NaN
        faults = [*self.problems, *([] if within else [f"{self.figure:.2g} is above the limit"])]
        message = f"{'; '.join(faults)}. {self.meaning}" if faults else self.meaning
        return CheckResult(test_name, not faults, self.figure, self.limit, message)


def failed(test_name: str, error: Exception) -> CheckResult:
    """The result of a check that raised an error."""
    return CheckResult(test_name, False, math.nan, math.nan, f"{type(error).__name__}: {error}")


def rounding(pair: ModelPair) -> float:
    """The limit of relative errors in what the target computes."""
    return ROUNDING[pair.target.dtype]


def tokenizer_rounding(pair: ModelPair) -> float:
    """The limit of relative errors in f-hat and in the inputs made from it."""
    return ROUNDING[pair.tokenizer.quantize.embedding.weight.dtype]


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the largest absolute number expected (at least 1); NaN if there is one."""
    if ours.shape != expected.shape:
        raise ValueError(f"expected shape {tuple(expected.shape)}, got {tuple(ours.shape)}")
    if not ours.numel():
        return 0.0
    return ((ours - expected).abs().max() / expected.abs().max().clamp(min=1)).item()
