"""What a check returns, and how large a figure may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdvar.decoding.compare import NEAR_TIE
from sdvar.models.tokenizer import VQVAE
from sdvar.models.transformer import VAR

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
        passed: whether the figure is within the limit and nothing else is wrong.
        figure, limit: what was measured and the most that it may be; NaN where the check could not run.
        message: what the figure is, and what is wrong if something is.
    """

    test_name: str
    passed: bool
    figure: float
    limit: float
    message: str


def judged(test_name: str, figure: float, limit: float, meaning: str, problems: Sequence[str] = ()) -> CheckResult:
    """The result of a check that ran: ``problems`` are faults that the figure does not show."""
    within = figure <= limit  # False for NaN
    faults = [*problems, *([] if within else [f"{figure:.2g} is above the limit"])]
    message = f"{'; '.join(faults)}. {meaning}" if faults else meaning
    return CheckResult(test_name, not faults, figure, limit, message)


def failed(test_name: str, error: Exception) -> CheckResult:
    """The result of a check that raised."""
    return CheckResult(test_name, False, float("nan"), float("nan"), f"{type(error).__name__}: {error}")


def precision(model: VAR | VQVAE) -> torch.dtype:
    """The dtype of a VAR's matrices or of a tokenizer, which sets how much rounding there is."""
    return model.blocks[0].ffn.fc1.weight.dtype if isinstance(model, VAR) else model.quantize.embedding.weight.dtype


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the largest absolute number expected (over 1 if that is smaller); NaN if any."""
    if ours.shape != expected.shape:
        raise ValueError(f"expected shape {tuple(expected.shape)}, got {tuple(ours.shape)}")
    if not ours.numel():
        return 0.0
    return ((ours - expected).abs().max() / expected.abs().max().clamp(min=1)).item()
