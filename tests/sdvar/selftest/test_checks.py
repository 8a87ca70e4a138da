"""The self-test: passes on a sound pair, and each check fails on the mistake that it is named after."""

import dataclasses
import re

import pytest
import torch

import sdvar
from sdvar.prototype import SDVAR
from sdvar.selftest import SDVARParallelV1Tester
from tests.random_pairs import close_pair, random_pair
from tests.sdvar.selftest import faults

NAMES = (
    "build_combined_query",
    "split_logits_by_stage",
    "guidance_branches",
    "block_causal_mask",
    "same_bits_in_every_pass",
    "cache_after_truncation",
    "f_hat_updated_once",
    "draft_equals_target",
    "coupled_equals_baseline",
    "image_end_to_end",
)


@pytest.fixture(scope="module")
def tester():
    return SDVARParallelV1Tester(close_pair())


def run(tester, name, gamma=2):
    return getattr(tester, f"test_{name}")(2, gamma)


def assert_all_pass(results):
    assert [result.test_name for result in results] == list(NAMES)
    assert all(result.passed for result in results), [result for result in results if not result.passed]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.one_in(2)
def test_every_dtype_passes(pair_files, dtype):
    """The small pair, as the command takes the bundled one."""
    assert_all_pass(SDVARParallelV1Tester(sdvar.load_pair(**pair_files, dtype=dtype)).run_all_tests(2, 2))


@pytest.mark.parametrize("patch_nums", [(1,), (1, 2), (2, 3, 3), (1, 2, 2, 3, 4)])
@pytest.mark.parametrize("gamma", [1, 2, 9])
@pytest.mark.one_in(3)
def test_any_pyramid_and_gamma_pass(patch_nums, gamma):
    assert_all_pass(SDVARParallelV1Tester(close_pair(patch_nums)).run_all_tests(3, gamma))


def test_a_pair_of_one_model_passes():
    pair = random_pair(same=True)
    assert_all_pass(SDVARParallelV1Tester(SDVAR(pair.draft, pair.target, pair.tokenizer)).run_all_tests())


def test_one_method_a_check(tester):
    methods = [name.removeprefix("test_") for name in dir(tester) if name.startswith("test_")]
    assert sorted(methods) == sorted(NAMES)
    for name in NAMES:
        result = run(tester, name)
        assert result.test_name == name and result.passed and result.message
        assert 0 <= result.number <= result.limit


def forget_classes(pair):
    """What is computed of a class once must be computed with the fault, and again without it."""
    for model in (pair.draft, pair.target):
        model.prefixes.clear()


@pytest.mark.parametrize(
    "broken, checks, named",
    [
        (faults.triangular_mask, ("block_causal_mask",), "the mask of scales 0-3 is not block-causal"),
        (faults.last_token_of_a_scale_hidden, ("block_causal_mask",), "do not see a token of their own scale"),
        (faults.last_token_of_a_scale_hidden, ("split_logits_by_stage", "cache_after_truncation"), "above the limit"),
        (faults.later_scales_seen, ("block_causal_mask", "split_logits_by_stage"), "above the limit"),
        (faults.visibility_that_the_model_ignores, ("block_causal_mask",), "above the limit"),
        (faults.products_by_other_kernels, ("same_bits_in_every_pass",), "above the limit"),
        (faults.truncation_after_a_rejection_only, ("cache_after_truncation",), "above the limit"),
        (faults.truncation_one_scale_late, ("cache_after_truncation",), "above the limit|Error"),
        (faults.no_truncation, ("cache_after_truncation",), "above the limit|Error"),
        (faults.f_hat_updated_twice, ("f_hat_updated_once",), "above the limit"),
        (faults.null_branch_copied, ("guidance_branches",), "the same for the class and the null class"),
        (faults.guidance_of_the_wrong_sign, ("guidance_branches",), "above the limit"),
        (faults.draft_left_out_of_the_query, ("build_combined_query",), "above the limit"),
        (faults.start_token_besides_the_first_scale, ("build_combined_query",), "Error"),
        (faults.logits_split_one_position_late, ("split_logits_by_stage",), "above the limit"),
        (faults.draft_accepted_unseen, ("coupled_equals_baseline",), "above the limit"),
        (faults.nothing_accepted, ("draft_equals_target",), "scales were rejected"),
        (faults.draft_with_its_own_noise, ("coupled_equals_baseline", "image_end_to_end"), "above the limit"),
        (faults.pixels(lambda images: images * torch.nan), ("image_end_to_end",), "NaN"),
        (faults.pixels(lambda images: images * 3), ("image_end_to_end",), "expected 0 to 1"),
        (faults.pixels(lambda images: images[..., 1:]), ("image_end_to_end",), "expected float32"),
        (faults.pixels(lambda images: images * torch.rand(())), ("image_end_to_end",), "above the limit"),
    ],
)
def test_a_fault_fails_its_check(tester, monkeypatch, broken, checks, named):
    broken(monkeypatch)
    forget_classes(tester.pair)
    for name in checks:
        result = run(tester, name)
        assert not result.passed, result
        assert re.search(named, result.message), result
    forget_classes(tester.pair)


@pytest.mark.parametrize(
    "broken, name",
    [
        (faults.last_token_of_a_scale_hidden, "block_causal_mask"),
        (faults.last_token_of_a_scale_hidden, "split_logits_by_stage"),
        (faults.later_scales_seen, "split_logits_by_stage"),
        (faults.truncation_after_a_rejection_only, "cache_after_truncation"),
        (faults.null_branch_copied, "guidance_branches"),
        (faults.draft_accepted_unseen, "coupled_equals_baseline"),
    ],
)
@pytest.mark.one_in(2)
def test_faults_are_seen_through_the_rounding_of_bfloat16(monkeypatch, broken, name):
    tester = SDVARParallelV1Tester(sdvar.load_pair("tiny", dtype=torch.bfloat16))
    broken(monkeypatch)
    result = run(tester, name)
    assert not result.passed, result


def test_memory_that_was_never_written_does_not_hide_a_fault(tester, monkeypatch):
    """The cache's error is set against the values that it holds, not against what the memory held before."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **kind: empty(*size, **kind).fill_(100))
    assert run(tester, "cache_after_truncation").passed
    faults.truncation_after_a_rejection_only(monkeypatch)
    number = run(tester, "cache_after_truncation").number
    monkeypatch.setattr(torch, "empty", empty)
    assert number == run(tester, "cache_after_truncation").number


def test_what_a_check_raises_is_its_failure():
    pair = random_pair()
    with torch.no_grad():
        pair.target.head.bias[0] = torch.nan
    results = SDVARParallelV1Tester(pair).run_all_tests()
    assert len(results) == len(NAMES)
    failed = {result.test_name: result.message for result in results if not result.passed}
    assert "ValueError: the target model's logits are NaN" in failed["coupled_equals_baseline"]


def test_wrong_arguments(tester):
    with pytest.raises(TypeError, match=r"sdvar_model: expected a sdvar.SDVAR or a sdvar.ModelPair, got 'tiny'"):
        SDVARParallelV1Tester("tiny")
    with pytest.raises(ValueError, match="B: expected an int >= 1, got 0"):
        tester.run_all_tests(B=0)
    with pytest.raises(ValueError, match="gamma: expected an int >= 1, got 0"):
        tester.test_block_causal_mask(gamma=0)


def test_results_are_values(tester):
    result = tester.test_block_causal_mask()
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.passed = False
