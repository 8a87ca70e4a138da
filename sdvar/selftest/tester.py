"""The prototype's tester: one method a check."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sdvar.decoding.strategy import check_int
from sdvar.pair import ModelPair
from sdvar.prototype import SDVAR
from sdvar.selftest import decoding_checks, model_checks
from sdvar.selftest.result import CheckResult, failed

CHECKS: tuple[Callable[[ModelPair, int, int], CheckResult], ...] = (
    model_checks.build_combined_query,
    model_checks.split_logits_by_stage,
    model_checks.guidance_branches,
    model_checks.block_causal_mask,
    decoding_checks.cache_after_truncation,
    decoding_checks.f_hat_updated_once,
    decoding_checks.draft_equals_target,
    decoding_checks.coupled_equals_baseline,
    decoding_checks.image_end_to_end,
)


class SDVARParallelV1Tester:
    """Checks the decoding of a pair of models, on their own weights and device.

    Args:
        sdvar_model: an SDVAR or a ModelPair.

    Every ``test_`` method takes B, images a decode, and gamma, scales drafted a round (both at least 1), and returns a
    CheckResult. What a check raises is its failure.

    Raises:
        TypeError: for something that is neither.
    """

    def __init__(self, sdvar_model: SDVAR | ModelPair) -> None:
        if not isinstance(sdvar_model, SDVAR | ModelPair):
            raise TypeError(f"sdvar_model: expected a sdvar.SDVAR or a sdvar.ModelPair, got {sdvar_model!r}")
        self.pair = sdvar_model.pair if isinstance(sdvar_model, SDVAR) else sdvar_model

    def run_all_tests(self, B: int = 2, gamma: int = 2) -> list[CheckResult]:
        """All checks, in the order of the parts that they look at."""
        return [self._run(check, B, gamma) for check in CHECKS]

    def test_build_combined_query(self, B: int = 2, gamma: int = 2) -> CheckResult:
        """A verification holds n_0 + n_1 + … positions, its inputs are those of the drafted tokens."""
        return self._run(model_checks.build_combined_query, B, gamma)

    def test_split_logits_by_stage(self, B: int = 2, gamma: int = 2) -> CheckResult:
        """Cutting the logits of one pass over several scales gives those of a pass a scale."""
        return self._run(model_checks.split_logits_by_stage, B, gamma)

    def test_guidance_branches(self, B: int = 2, gamma: int = 2) -> CheckResult:
        """The class and the null branch differ from the first input on and are combined as VAR does."""
        return self._run(model_checks.guidance_branches, B, gamma)

    def test_block_causal_mask(self, B: int = 2, gamma: int = 2) -> CheckResult:
        """A scale sees all of itself and the scales before it, and no more."""
        return self._run(model_checks.block_causal_mask, B, gamma)

    def test_cache_after_truncation(self, B: int = 2, gamma: int = 2) -> CheckResult:
        """After rejections both caches hold what the committed scales give."""
        return self._run(decoding_checks.cache_after_truncation, B, gamma)

    def test_f_hat_updated_once(self, B: int = 2, gamma: int = 2) -> CheckResult:
        """f-hat holds one contribution a committed scale."""
        return self._run(decoding_checks.f_hat_updated_once, B, gamma)

    def test_draft_equals_target(self, B: int = 2, gamma: int = 2) -> CheckResult:
        """With the target as its own draft everything stands, in ceil(K / (gamma + 1)) target calls."""
        return self._run(decoding_checks.draft_equals_target, B, gamma)

    def test_coupled_equals_baseline(self, B: int = 2, gamma: int = 2) -> CheckResult:
        """Speculative decoding with `Coupled` gives the baseline's tokens."""
        return self._run(decoding_checks.coupled_equals_baseline, B, gamma)

    def test_image_end_to_end(self, B: int = 2, gamma: int = 2) -> CheckResult:
        """Images are finite, in range, of the right size, and the same each time."""
        return self._run(decoding_checks.image_end_to_end, B, gamma)

    @torch.no_grad()
    def _run(self, check: Callable[[ModelPair, int, int], CheckResult], B: int, gamma: int) -> CheckResult:
        check_int("B", B, least=1)
        check_int("gamma", gamma, least=1)
        try:
            return check(self.pair, B, gamma)
        except Exception as error:
            return failed(check.__name__, error)
