"""The prototype's tester: one method a check."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch

from sdvar.arguments import check_int
from sdvar.pair import ModelPair
from sdvar.prototype import SDVAR
from sdvar.selftest import decoding_checks, model_checks
from sdvar.selftest.result import CheckResult
from sdvar.system.steps import log


def _method(check: Callable[[ModelPair, int, int], CheckResult]) -> Callable[..., CheckResult]:
    """The tester's method that runs a check."""

    @torch.no_grad()
    def method(self: SDVARParallelV1Tester, B: int = 2, gamma: int = 2) -> CheckResult:
        check_int("B", B, least=1)
        check_int("gamma", gamma, least=1)
        log.info("checking %s", check.__name__)
        try:
            result = check(self.pair, B, gamma)
        except Exception as error:
            result = CheckResult(math.nan, math.nan, problems=(f"{type(error).__name__}: {error}",))
        return dataclasses.replace(result, test_name=check.__name__)

    method.__name__, method.__doc__ = f"test_{check.__name__}", check.__doc__
    return method


class SDVARParallelV1Tester:
    """Checks the decoding of a pair of models, on their own weights and device.

    Args:
        sdvar_model: an SDVAR or a ModelPair.

    Every ``test_`` method takes B, images per decode, and gamma, scales drafted per round, both at least 1, and returns
    a CheckResult. A check that raises an error has failed.

    Raises:
        TypeError: for something that is neither.
    """

    def __init__(self, sdvar_model: SDVAR | ModelPair) -> None:
        if not isinstance(sdvar_model, SDVAR | ModelPair):
            raise TypeError(f"sdvar_model: expected a sdvar.SDVAR or a sdvar.ModelPair, got {sdvar_model!r}")
        self.pair = sdvar_model.pair if isinstance(sdvar_model, SDVAR) else sdvar_model

    test_build_combined_query = _method(model_checks.build_combined_query)
    test_split_logits_by_stage = _method(model_checks.split_logits_by_stage)
    test_guidance_branches = _method(model_checks.guidance_branches)
    test_block_causal_mask = _method(model_checks.block_causal_mask)
    test_same_bits_in_every_pass = _method(model_checks.same_bits_in_every_pass)
    test_cache_after_truncation = _method(decoding_checks.cache_after_truncation)
    test_f_hat_updated_once = _method(decoding_checks.f_hat_updated_once)
    test_draft_equals_target = _method(decoding_checks.draft_equals_target)
    test_coupled_equals_baseline = _method(decoding_checks.coupled_equals_baseline)
    test_image_end_to_end = _method(decoding_checks.image_end_to_end)

    def run_all_tests(self, B: int = 2, gamma: int = 2) -> list[CheckResult]:
        """All checks, in the order above."""
        return [getattr(self, name)(B, gamma) for name in vars(type(self)) if name.startswith("test_")]
