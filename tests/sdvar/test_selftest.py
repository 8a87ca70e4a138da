"""The self-test: passes on a sound pair, and each check fails on the mistake that it is named after."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import sdvar
from sdvar.decoding.rounds import Drafted, Rounds
from sdvar.decoding.state import TokenMaps
from sdvar.decoding.stepper import Stepper
from sdvar.models import transformer
from sdvar.models.running.workspace import selected
from sdvar.prototype import SDVAR
from sdvar.selftest import SDVARParallelV1Tester
from sdvar.selftest.__main__ import main
from tests.paths import ROOT
from tests.random_pairs import close_pair, random_pair

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


# each breaks one thing, by way of monkeypatch; the checks in the list must then fail, and `named` says why they do


def triangular_mask(monkeypatch):
    def mask(pyramid, first, last, visible_from, device):
        queries, keys = pyramid.span_tokens(first, last), pyramid.span_tokens(visible_from, last)
        return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)

    monkeypatch.setattr("sdvar.pyramid._block_causal_mask", mask)


def keys_seen(monkeypatch, end):
    """In a pass over several scales: ``end`` makes the number of keys from the right one and from that of all."""
    block_causal = transformer.block_causal

    def broken(pyramid, first, last, visible_from, device):
        right = block_causal(pyramid, first, last, visible_from, device)
        blocks = (
            right.blocks if last - first == 1 else [(a, b, end(n, right.blocks[-1][2])) for a, b, n in right.blocks]
        )
        return right._replace(blocks=blocks)

    monkeypatch.setattr(transformer, "block_causal", broken)


def last_token_of_a_scale_hidden(monkeypatch):
    keys_seen(monkeypatch, lambda right, everything: max(1, right - 1))


def later_scales_seen(monkeypatch):
    keys_seen(monkeypatch, lambda right, everything: everything)


def visibility_that_the_model_ignores(monkeypatch):
    monkeypatch.setattr(
        "sdvar.models.blocks.attend",
        lambda q, k, v, visibility, scale, kernel: F.scaled_dot_product_attention(q, k, v, scale=scale),
    )


def products_by_other_kernels(monkeypatch):
    """As a library does: the order of additions follows the number of rows."""

    def product(x, weight, bias=None, gelu=False, copy=None):
        flipped = x.numel() // x.shape[-1] % 2
        y = F.linear(x.flip(-1), weight.flip(-1), bias) if flipped else F.linear(x, weight, bias)
        return F.gelu(y, approximate="tanh") if gelu else y

    monkeypatch.setattr("sdvar.models.layers.linear.product", product)


def truncation_one_scale_late(monkeypatch):
    truncate = Stepper.truncate
    monkeypatch.setattr(Stepper, "truncate", lambda self, images, scale: truncate(self, images, scale + 1))


def no_truncation(monkeypatch):
    monkeypatch.setattr(Stepper, "truncate", lambda self, images, scale: None)


def truncation_after_a_rejection_only(monkeypatch):
    """Silent: a scale accepted with replaced tokens leaves keys that were computed from the drafted ones."""
    commit = Rounds._commit

    def forgetful(self, *judged):
        before = [(image.draft.cached, image.target.cached) for image in self.progress]
        accepted, rejected = commit(self, *judged)
        for i in accepted:
            self.progress[i].draft.cached, self.progress[i].target.cached = before[i]
        return accepted, rejected

    monkeypatch.setattr(Rounds, "_commit", forgetful)


def f_hat_updated_twice(monkeypatch):
    commit = TokenMaps.commit

    def twice(self, images, scale, tokens, code=None):
        commit(self, images, scale, tokens, code)
        self.f_hat[images] += self.quantizer.contribution(tokens, scale)

    monkeypatch.setattr(TokenMaps, "commit", twice)


def forget_classes(pair):
    """What is computed of a class once must be computed with the fault, and again without it."""
    for model in (pair.draft, pair.target):
        model.prefixes.clear()


def null_branch_copied(monkeypatch):
    init = Stepper.__init__

    def copied(self, *args):
        init(self, *args)
        rows = torch.arange(len(self.progress)).repeat(2)
        self.workspace.conditioning = selected(self.workspace.conditioning, rows)

    monkeypatch.setattr(Stepper, "__init__", copied)


def guidance_of_the_wrong_sign(monkeypatch):
    monkeypatch.setattr(sdvar.Sampling, "guidance", lambda self, scale, scales: -self.cfg * scale / (scales - 1))


def draft_left_out_of_the_query(monkeypatch):
    add = Drafted.add

    def stale(self, tokens):
        before = self.f_hat
        add(self, tokens)
        self.inputs[-1] = self.quantizer.next_input(before, self.scale + len(self.tokens))

    monkeypatch.setattr(Drafted, "add", stale)


def start_token_besides_the_first_scale(monkeypatch):
    condition = sdvar.VAR.condition

    def doubled(self, labels):
        conditioning = condition(self, labels)
        return conditioning._replace(start=conditioning.start.repeat(1, 2, 1))

    monkeypatch.setattr(sdvar.VAR, "condition", doubled)


def logits_split_one_position_late(monkeypatch):
    split = sdvar.ScalePyramid.split
    monkeypatch.setattr(
        sdvar.ScalePyramid, "split", lambda self, x, *span, dim=1: split(self, x.roll(-1, dim), *span, dim=dim)
    )


def draft_accepted_unseen(monkeypatch):
    def judge(self, proposal):
        everything = torch.ones_like(proposal.drafted, dtype=torch.bool)
        return sdvar.Verdict(proposal.drafted, everything.all(1), everything)

    monkeypatch.setattr(sdvar.Coupled, "judge", judge)


def nothing_accepted(monkeypatch):
    judge = sdvar.Coupled.judge

    def refuse(self, proposal):
        verdict = judge(self, proposal)
        return verdict._replace(accepted=torch.zeros_like(verdict.accepted))

    monkeypatch.setattr(sdvar.Coupled, "judge", refuse)


def draft_with_its_own_noise(monkeypatch):
    uniform, calls = sdvar.noise._uniform, iter(range(10**6))

    def other_noise(seeds, *args):
        return uniform(seeds + next(calls), *args)

    monkeypatch.setattr("sdvar.noise._uniform", other_noise)


def pixels(change):
    def broken(monkeypatch):
        decode = sdvar.VQVAE.decode_f_hat
        monkeypatch.setattr(sdvar.VQVAE, "decode_f_hat", lambda self, f_hat: change(decode(self, f_hat)))

    return broken


@pytest.mark.parametrize(
    "broken, checks, named",
    [
        (triangular_mask, ("block_causal_mask",), "the mask of scales 0-3 is not block-causal"),
        (last_token_of_a_scale_hidden, ("block_causal_mask",), "do not see a token of their own scale"),
        (last_token_of_a_scale_hidden, ("split_logits_by_stage", "cache_after_truncation"), "above the limit"),
        (later_scales_seen, ("block_causal_mask", "split_logits_by_stage"), "above the limit"),
        (visibility_that_the_model_ignores, ("block_causal_mask",), "above the limit"),
        (products_by_other_kernels, ("same_bits_in_every_pass",), "above the limit"),
        (truncation_after_a_rejection_only, ("cache_after_truncation",), "above the limit"),
        (truncation_one_scale_late, ("cache_after_truncation",), "above the limit|Error"),
        (no_truncation, ("cache_after_truncation",), "above the limit|Error"),
        (f_hat_updated_twice, ("f_hat_updated_once",), "above the limit"),
        (null_branch_copied, ("guidance_branches",), "the same for the class and the null class"),
        (guidance_of_the_wrong_sign, ("guidance_branches",), "above the limit"),
        (draft_left_out_of_the_query, ("build_combined_query",), "above the limit"),
        (start_token_besides_the_first_scale, ("build_combined_query",), "Error"),
        (logits_split_one_position_late, ("split_logits_by_stage",), "above the limit"),
        (draft_accepted_unseen, ("coupled_equals_baseline",), "above the limit"),
        (nothing_accepted, ("draft_equals_target",), "scales were rejected"),
        (draft_with_its_own_noise, ("coupled_equals_baseline", "image_end_to_end"), "above the limit"),
        (pixels(lambda images: images * torch.nan), ("image_end_to_end",), "NaN"),
        (pixels(lambda images: images * 3), ("image_end_to_end",), "expected 0 to 1"),
        (pixels(lambda images: images[..., 1:]), ("image_end_to_end",), "expected float32"),
        (pixels(lambda images: images * torch.rand(())), ("image_end_to_end",), "above the limit"),
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
        (last_token_of_a_scale_hidden, "block_causal_mask"),
        (last_token_of_a_scale_hidden, "split_logits_by_stage"),
        (later_scales_seen, "split_logits_by_stage"),
        (truncation_after_a_rejection_only, "cache_after_truncation"),
        (null_branch_copied, "guidance_branches"),
        (draft_accepted_unseen, "coupled_equals_baseline"),
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
    truncation_after_a_rejection_only(monkeypatch)
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


@pytest.mark.proof
def test_the_command():
    """Through the real command line, in a process of its own."""
    command = [sys.executable, "-m", "sdvar.selftest", "--pair", "tiny", "--device", "cpu", "--batch_size", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"COLUMNS": "60"})
    assert done.returncode == 0, done.stderr
    rows = {line.split()[1]: line for line in done.stdout.splitlines() if any(name in line for name in NAMES)}
    assert set(rows) == set(NAMES)
    assert all(row.split("│")[2].strip() == "yes" for row in rows.values())
    assert done.stdout.rstrip().endswith("10 of 10 checks passed")


def test_the_command_on_checkpoints(pair_files, capsys):
    options = [f"--{name}={file}" for name, file in pair_files.items()]
    assert main([*options, "--device=cpu", "--dtype=float64", "--gamma=1"]) == 0
    assert "10 of 10 checks passed" in capsys.readouterr().out


def test_the_command_exits_with_1_when_a_check_fails(pair_files, monkeypatch, capsys):
    null_branch_copied(monkeypatch)
    assert main([*(f"--{name}={file}" for name, file in pair_files.items()), "--device=cpu"]) == 1
    shown = capsys.readouterr().out
    assert "NO" in shown and "9 of 9" not in shown


@pytest.mark.parametrize(
    "options, words",
    [
        (["--draft=a.pth", "--target=b.pth", "--tokenizer=c.pth"], "b.pth: no such file"),
        (["--device=gpu"], "--device: expected cpu, cuda or cuda:N, got 'gpu'"),
        (["--device=cuda:99"], "--device: cuda:99 asked for"),
    ],
)
def test_wrong_options_end_with_one_line(capsys, options, words):
    with pytest.raises(SystemExit) as stopped:
        main(options)
    shown = capsys.readouterr()
    assert stopped.value.code == 2
    assert words in shown.err and len(shown.err.splitlines()) == 1 and not shown.out


@pytest.mark.parametrize("option", ["--gamma=0", "--threads=0", "--batch_size=two", f"--batch_size={'9' * 5000}"])
def test_wrong_values_are_refused_by_the_parser(refused, option):
    assert option.split("=")[1] in refused(main, [option])


def test_results_are_values(tester):
    result = tester.test_block_causal_mask()
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.passed = False
