"""Coupled speculative decoding gives the baseline's tokens, whatever the batch, the draft and gamma."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sdvar
from tests.random_pairs import close_pair, random_pair, same_tokens

SAMPLINGS = [
    sdvar.Sampling(),
    sdvar.Sampling(cfg=0.0),
    sdvar.Sampling(cfg=3.0, top_k=10, top_p=0.9),
    sdvar.Sampling(temperature=[1.0, 2.0, 0.7, 1.0]),
]


@pytest.fixture(scope="module")
def pairs():
    return {"close": close_pair(), "unrelated": random_pair()}


SCHEDULES = [1, 2, 3, 9, sdvar.Adaptive(2, 1, 3), sdvar.TokenBudget(14), sdvar.TokenBudget(1), sdvar.Spans((3, 1))]


@pytest.mark.parametrize("redraft", ["draft", "target"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("draft", ["close", "unrelated"])
@pytest.mark.one_in(3)
def test_coupled_equals_baseline(pairs, draft, sampling, redraft):
    pair = pairs[draft]
    labels, seeds = [*range(10), pair.num_classes], list(range(100, 111))
    baseline = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), sampling)
    for gamma in SCHEDULES:
        ours = sdvar.decode(pair, labels, seeds, sdvar.Speculative(gamma, redraft=redraft), sampling)
        assert same_tokens(ours, baseline)
        assert torch.equal(ours.images, baseline.images)
        assert sdvar.first_differences(pair, labels, seeds, sampling, ours.tokens, baseline.tokens).isnan().all()


def test_close_pair_exercises_both_ends_of_a_round(pairs):
    """Otherwise the test above would show little."""
    stats = sdvar.decode(pairs["close"], [0] * 20, range(20), sdvar.Speculative(2), images=False).stats
    assert 0 < stats.accepted_scales[1] < stats.drafted_scales[1]
    assert stats.target_calls.unique().numel() > 1


def test_float32_differs_at_near_ties_only():
    pair, labels, seeds = close_pair(dtype=torch.float32), [1] * 40, list(range(40))
    baseline = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), images=False)
    ours = sdvar.decode(pair, labels, seeds, sdvar.Speculative(2), images=False)
    gaps = sdvar.first_differences(pair, labels, seeds, sdvar.Sampling(), ours.tokens, baseline.tokens)
    assert (gaps[~gaps.isnan()] < sdvar.NEAR_TIE).all()


def test_another_seed_is_no_near_tie(pairs):
    """The check of near-ties must be able to fail."""
    a = sdvar.decode(pairs["close"], [1, 2], [5, 6], sdvar.Baseline(), images=False)
    b = sdvar.decode(pairs["close"], [1, 2], [7, 6], sdvar.Baseline(), images=False)
    gaps = sdvar.first_differences(pairs["close"], [1, 2], [7, 6], sdvar.Sampling(), a.tokens, b.tokens)
    assert gaps[0] > sdvar.NEAR_TIE
    assert gaps[1].isnan()


def test_a_turned_near_tie_is_seen_as_one(pairs):
    """Swap the token with the smallest gap for its runner-up: the reported gap is that gap."""
    pair, sampling = pairs["close"], sdvar.Sampling(top_k=8)
    baseline = sdvar.decode(pair, [3], [11], sdvar.Baseline(), sampling, images=False)
    state = sdvar.decoding.DecodeState(pair, torch.tensor([3]), torch.tensor([11]), sampling)
    inputs = pair.tokenizer.var_inputs(baseline.tokens)
    logits = state.stepper("target").all_logits(inputs)[-1]
    scores = sampling.filtered(logits) + state.gumbel([0], 3, logits)
    best, runner_up = scores.topk(2, dim=-1).values.unbind(-1)
    position = (best - runner_up)[0].argmin()
    tokens = [t.clone() for t in baseline.tokens]
    tokens[3][0, position] = scores[0, position].topk(2).indices[1]
    gap = sdvar.first_differences(pair, [3], [11], sampling, tokens, baseline.tokens)
    assert gap.item() <= (best - runner_up).min().item() + 1e-12


@pytest.mark.parametrize("strategy", [sdvar.Baseline(), sdvar.Speculative(2), sdvar.Speculative(2, sdvar.Match(0.3)),
                                      sdvar.Speculative(3, sdvar.Match(0.3, "target")), sdvar.Handoff(2),
                                      sdvar.Speculative(2, sdvar.Rejection()), sdvar.Speculative(3, redraft="target"),
                                      sdvar.Speculative(sdvar.Adaptive(1, 1, 3)), sdvar.Speculative(2, sdvar.KL(0.01)),
                                      sdvar.Speculative(sdvar.TokenBudget(14), sdvar.Top1(0.4)),
                                      sdvar.Speculative(2, sdvar.TopK(3, 0.8), verify_scales=3),
                                      sdvar.Speculative(2, sdvar.Neighbour(3, 0.3))])  # fmt: skip
def test_an_image_does_not_depend_on_its_batch(pairs, strategy):
    pair = pairs["close"]
    labels, seeds = [7, 1, 4, 0, 10, 2, 3], [3, 1, 4, 15, 9, 2, 6]
    together = sdvar.decode(pair, labels, seeds, strategy)
    calls = together.stats.target_calls
    for i in (0, 3, 6):
        alone = sdvar.decode(pair, labels[i : i + 1], seeds[i : i + 1], strategy)
        assert all(torch.equal(a[0], t[i]) for a, t in zip(alone.tokens, together.tokens))
        assert alone.stats.target_calls.item() == calls[i]
    order = [4, 2, 6, 0, 5, 1, 3]
    shuffled = sdvar.decode(pair, [labels[i] for i in order], [seeds[i] for i in order], strategy)
    assert all(torch.equal(s, t[order]) for s, t in zip(shuffled.tokens, together.tokens))
    assert torch.equal(shuffled.stats.target_tokens, together.stats.target_tokens[order])


@pytest.mark.parametrize("patch_nums", [(1, 2, 3, 4), (1, 1, 2, 2, 3, 4), (2, 3), (3,)])
def test_draft_equal_to_target_accepts_everything(patch_nums):
    pair, scales = random_pair(patch_nums, same=True), len(patch_nums)
    for gamma in (1, 2, 4):
        for rule in (sdvar.Coupled(), sdvar.Rejection(), sdvar.Match(1.0)):
            stats = sdvar.decode(pair, [0, 5], [1, 2], sdvar.Speculative(gamma, rule), images=False).stats
            assert stats.target_calls.tolist() == [-(-(scales - 1) // (gamma + 1))] * 2
            assert torch.equal(stats.agreed_tokens, stats.drafted_tokens)
            assert torch.equal(stats.accepted_scales, stats.drafted_scales)
            assert stats.target_tokens.tolist() == [pair.pyramid.span_tokens(1, scales)] * 2  # nothing processed twice
            assert stats.drafted_scales[-1] == 0  # the last scale is never drafted


def test_ten_scales_with_equal_models_need_three_and_two_calls():
    pair = random_pair((1, 2, 3, 4, 5, 6, 8, 10, 13, 16), torch.float32, same=True, vocabulary=16)
    for gamma, calls in ((2, 3), (4, 2)):
        stats = sdvar.decode(pair, [0], [0], sdvar.Speculative(gamma), images=False).stats
        assert stats.target_calls.item() == calls


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    patch_nums=st.lists(st.integers(1, 4), min_size=1, max_size=5).map(lambda sides: tuple(sorted(sides))),
    gamma=st.integers(1, 5),
    seed=st.integers(-(2**63), 2**63 - 1),
    batch=st.integers(1, 4),
    cfg=st.sampled_from([0.0, 2.0]),
)
def test_any_pyramid(patch_nums, gamma, seed, batch, cfg):
    pair, sampling = random_pair(patch_nums), sdvar.Sampling(cfg=cfg)
    labels, seeds = list(range(batch)), [seed ^ i for i in range(batch)]
    baseline = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), sampling, images=False)
    ours = sdvar.decode(pair, labels, seeds, sdvar.Speculative(gamma), sampling, images=False)
    assert same_tokens(ours, baseline)
    assert (ours.stats.target_calls <= len(patch_nums)).all()
