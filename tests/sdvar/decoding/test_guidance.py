"""Guidance by scale: what each scale gets, and that the null branch runs no longer than it has to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sdvar
from sdvar.decoding import DecodeState
from sdvar.decoding.strategies.rounds import Rounds
from sdvar.decoding.timing import Clock
from sdvar.selftest.cache_error import cache_error
from tests.random_pairs import close_pair, random_pair, same_tokens

PYRAMID = (1, 2, 2, 3, 4)
LABELS, SEEDS = [0, 3, 7], [1, 2, 3]
BY_SCALE = [[1.5, 1.5, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0, 0.0], [3.0, 2.0, 0.0, 0.0, 1.0]]
UNTIL = sdvar.Sampling(cfg=2.0, cfg_until=3)


def decoded(pair, strategy, sampling, clock=None):
    return sdvar.decode(pair, LABELS, SEEDS, strategy, sampling, images=False, clock=clock)


def passes(strategy, sampling, model="target"):
    """First scale, end, and branches of the passes of a decode; images of a group side by side."""
    clock = Clock("cpu")
    decoded(close_pair(PYRAMID), strategy, sampling, clock)
    works = [stretch.work for stretch in clock.stretches() if stretch.part == model and stretch.work is not None]
    return [(work.first, work.last, work.rows / len(LABELS)) for work in works if work.first < work.last]


def test_equal_numbers_are_the_number():
    pair = close_pair(PYRAMID)
    number, numbers = (decoded(pair, sdvar.Baseline(), sdvar.Sampling(cfg)) for cfg in (1.5, [1.5] * 5))
    assert same_tokens(number, numbers)


def test_until_a_scale_is_zeros_from_there_on():
    pair = close_pair(PYRAMID)
    zeros = decoded(pair, sdvar.Baseline(), sdvar.Sampling([2.0, 2.0, 2.0, 0.0, 0.0]))
    assert same_tokens(decoded(pair, sdvar.Baseline(), UNTIL), zeros)
    assert not same_tokens(decoded(pair, sdvar.Baseline(), sdvar.Sampling(2.0)), zeros)


@pytest.mark.parametrize("cfg", BY_SCALE, ids=str)
def test_tokens_are_those_of_a_naive_reference(cfg):
    """Both branches by themselves over all scales, guidance written out, one pick per token."""
    pair, sampling = close_pair(PYRAMID), sdvar.Sampling(cfg, top_k=9)
    tokens = decoded(pair, sdvar.Baseline(), sampling).tokens
    labels, inputs = torch.tensor(LABELS), pair.tokenizer.var_inputs(tokens)
    with torch.no_grad():
        of_class, of_null = (pair.target(which, inputs) for which in (labels, torch.full_like(labels, 10)))
    state, logits = DecodeState(pair, labels, torch.tensor(SEEDS), sampling), []
    for k, (ours, null) in enumerate(zip(pair.pyramid.split(of_class), pair.pyramid.split(of_null))):
        t = cfg[k] * k / 4
        logits.append((1 + t) * ours - t * null)
        kept = logits[k].masked_fill(logits[k] < logits[k].topk(9).values[..., -1:], -torch.inf)
        assert torch.equal((kept + state.gumbel(range(3), k, kept)).argmax(-1), tokens[k])
    taught = state.stepper("target").all_logits(inputs)
    torch.testing.assert_close(taught, logits, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (sdvar.Baseline(), [(1, 2, 2), (2, 3, 2), (3, 4, 1), (4, 5, 1)]),
        (sdvar.Handoff(2), [(1, 3, 2), (3, 4, 1), (4, 5, 1)]),
        (sdvar.Handoff(3), [(1, 4, 1), (4, 5, 1)]),  # what it catches up with needs no null branch any more
        (sdvar.Handoff(3, prefix="none"), [(3, 4, 1), (4, 5, 1)]),
    ],
    ids=repr,
)
def test_the_null_branch_runs_up_to_the_last_guided_scale_alone(strategy, expected):
    assert passes(strategy, UNTIL) == expected


def test_scales_before_a_guided_one_run_both_branches():
    """The guided scale sees the null branch's keys of those before it."""
    assert [rows for *_, rows in passes(sdvar.Baseline(), sdvar.Sampling(BY_SCALE[1]))] == [2, 2, 1, 1]
    assert [rows for *_, rows in passes(sdvar.Baseline(), sdvar.Sampling(BY_SCALE[2]))] == [2, 2, 2, 2]


def test_a_verification_across_the_border_runs_both_branches():
    everything = sdvar.Speculative(4, sdvar.KL(1e9))
    assert passes(everything, UNTIL) == [(1, 5, 2)]
    assert [rows for *_, rows in passes(everything, UNTIL, "draft")] == [2, 2, 1]
    assert passes(sdvar.Speculative(sdvar.Spans((3, 2)), sdvar.KL(1e9)), UNTIL) == [(1, 3, 2), (3, 5, 1)]


def test_caches_of_both_branches_after_every_round(monkeypatch):
    """Rounds that are rejected go back across the border."""
    seen, original = [], Rounds._round

    def checked(self, *arguments):
        original(self, *arguments)
        assert cache_error(self.state) < 1e-10
        seen.extend((image.target.cached, image.target.null_cached) for image in self.progress)

    monkeypatch.setattr(Rounds, "_round", checked)
    for gamma in (1, 2, 4):
        with torch.no_grad():
            decoded(close_pair(PYRAMID), sdvar.Speculative(gamma), UNTIL)
    assert any(cached > null for cached, null in seen) and any(cached == null > 1 for cached, null in seen)


def test_a_guided_pass_without_the_keys_of_the_null_branch_is_refused():
    pair = close_pair(PYRAMID)
    state = DecodeState(pair, torch.tensor(LABELS), torch.tensor(SEEDS), UNTIL)
    stepper, inputs = state.stepper("target"), torch.zeros(3, pair.pyramid.length, 8, dtype=torch.float64)
    with torch.no_grad():
        stepper.run(range(3), inputs[:, pair.pyramid.span(1, 4)], 1, 4, wanted_from=3)
        stepper.truncate(range(3), 2)
        with pytest.raises(RuntimeError, match="expected as many cached scales"):
            stepper.run(range(3), inputs[:, pair.pyramid.span(2, 3)], 2, 3, wanted_from=2)


GUIDANCE = st.tuples(st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=5, max_size=5), st.integers(1, 5))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    given_cfg=GUIDANCE,
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    gamma=st.integers(1, 4),
    redraft=st.sampled_from(["draft", "target"]),
    batch=st.integers(1, 4),
)
def test_coupled_equals_baseline_to_the_bit(given_cfg, dtype, gamma, redraft, batch):
    cfg, until = given_cfg
    pair, sampling = close_pair(PYRAMID, dtype), sdvar.Sampling(cfg, cfg_until=until)
    labels, seeds = list(range(batch)), [71 * i for i in range(batch)]
    baseline = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), sampling, images=False)
    ours = sdvar.decode(pair, labels, seeds, sdvar.Speculative(gamma, redraft=redraft), sampling, images=False)
    assert same_tokens(ours, baseline)


def test_null_class_is_computed_where_it_is_needed():
    pair = random_pair(PYRAMID)
    decoded(pair, sdvar.Baseline(), sdvar.Sampling(cfg=[3.0, 0, 0, 0, 0]))  # t is 0 at scale 0
    assert pair.target.prefixes.computed == 3
    decoded(pair, sdvar.Baseline(), UNTIL)
    assert pair.target.prefixes.computed == 4


def test_pictures_made_smoother_have_guidance_by_scale_too():
    pair = close_pair(PYRAMID)
    smooth = (
        sdvar.Sampling(2.0, more_smooth=True, cfg_until=3),
        sdvar.Sampling([2.0, 2.0, 2.0, 0.0, 0.0], more_smooth=True),
    )
    one, other = (sdvar.decode(pair, LABELS, SEEDS, sdvar.Baseline(), sampling).images for sampling in smooth)
    assert torch.equal(one, other)
