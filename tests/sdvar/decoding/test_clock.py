"""The clock: what it times is what ran, and it changes nothing."""

import time

import pytest
import torch

import sdvar
from sdvar.decoding.timing import PARTS, Clock, Pass, Stretch, seconds_per_scale
from tests.random_pairs import close_pair, same_tokens

LABELS, SEEDS = [0, 3, 7], [1, 2, 3]
STRATEGIES = [
    sdvar.Baseline(),
    sdvar.Handoff(entry=2, first="target"),
    sdvar.Handoff(entry=2, prefix="none"),
    sdvar.Speculative(gamma=2),
    sdvar.Speculative(gamma=3, redraft="target"),
]


def decoded(strategy, cfg, clock=None, pair=None):
    return sdvar.decode(pair or close_pair(), LABELS, SEEDS, strategy, sdvar.Sampling(cfg), clock=clock)


@pytest.mark.parametrize("cfg", [0.0, 1.5])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_passes_are_those_that_the_decode_counts(strategy, cfg):
    clock = Clock("cpu")
    result = decoded(strategy, cfg, clock)
    pyramid, branches = close_pair().pyramid, 2 if cfg else 1
    for model in ("draft", "target"):
        passes = [s.work for s in clock.stretches() if s.work is not None and s.work.model == model]
        steps = [work for work in passes if work.first < work.last]
        assert [work for work in passes if work not in steps] in ([], [Pass(model, 3 * branches, 0, 0, 0, 0)])
        calls, tokens = getattr(result.stats, f"{model}_calls"), getattr(result.stats, f"{model}_tokens")
        assert sum(work.rows for work in steps) == branches * calls.sum()
        assert sum(work.rows * pyramid.span_tokens(work.first, work.last) for work in steps) == branches * tokens.sum()
        assert all(work.visible_from <= work.first <= work.logits_from < work.last for work in steps)


def test_stretches_are_of_the_parts_and_do_not_overlap():
    clock, pair = Clock("cpu"), close_pair()
    started = time.perf_counter()
    decoded(sdvar.Speculative(gamma=2, acceptance=sdvar.TopK(3)), 1.5, clock, pair)
    whole = time.perf_counter() - started
    stretches = clock.stretches()
    assert {s.part for s in stretches} == set(PARTS)
    assert all(s.seconds > 0 for s in stretches)
    assert 0.3 * whole < sum(s.seconds for s in stretches) < whole  # an overlap would count time twice
    assert [s.part for s in stretches].count("tokenizer") == 1
    assert {s.first for s in stretches if s.part == "sampling"} == {0, 1, 2, 3}


def test_a_clock_changes_no_token():
    assert same_tokens(decoded(sdvar.Speculative(2), 1.5, Clock("cpu")), decoded(sdvar.Speculative(2), 1.5))


def test_a_pass_over_several_scales_is_shared_by_their_tokens():
    stretches = [
        Stretch("target", 0, 0, 0.5, Pass("target", 2, 0, 0, 0, 0)),  # conditioning
        Stretch("target", 0, 3, 1.4, Pass("target", 2, 0, 3, 0, 0)),
        Stretch("target", 2, 3, 0.25, Pass("target", 2, 2, 3, 0, 2)),
        Stretch("sampling", 1, 2, 0.125, None),
        Stretch("tokenizer", 0, 0, 2.0, None),
    ]
    seconds = seconds_per_scale(stretches, tokens=(1, 4, 9))
    assert seconds["target"] == pytest.approx([0.1, 0.4, 0.9 + 0.25, 0.5])
    assert seconds["sampling"] == [0, 0.125, 0, 0] and seconds["tokenizer"] == [0, 0, 0, 2.0]
    assert seconds["draft"] == [0, 0, 0, 0]
    assert sum(map(sum, seconds.values())) == pytest.approx(sum(stretch.seconds for stretch in stretches))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_events_add_up_to_the_time_of_the_device():
    pair = close_pair(dtype=torch.float32)
    for model in (pair.draft, pair.target, pair.tokenizer):
        model.cuda()
    clock = Clock("cuda")
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    sdvar.decode(pair, LABELS, SEEDS, sdvar.Baseline(), clock=clock)
    end.record()
    parts = sum(s.seconds for s in clock.stretches())
    assert 0.1 < parts / (start.elapsed_time(end) / 1000) < 1
