"""The model behind plans: replayed rounds, expected times, the search, what is measured."""

import itertools
import math

import numpy as np
import pytest
import torch

import sdvar
from sdvar import decode
from sdvar.decoding.timing import Clock
from sdvar.models.running import cuda_graphs
from sdvar.planning import comparison
from sdvar.planning.agreement import SEED_OFFSET, Agreement, measure_agreement, simulated_agreement
from sdvar.planning.candidates import find_candidates, lossy_strategies, spans_strategy
from sdvar.planning.comparison import Timed, choose, compare, faster
from sdvar.planning.costs import (
    BEGIN_TARGET,
    NOISE,
    CostTable,
    Step,
    at,
    cost_table,
    draft_pass,
    every_step,
    group_sizes,
    target_pass,
)
from sdvar.planning.expected import SpanModel
from sdvar.planning.inputs import labels_and_seeds
from sdvar.planning.probe import measure_costs
from sdvar.planning.replay import Replay, mean_seconds
from tests.random_pairs import close_pair

SAMPLING = sdvar.Sampling(cfg=1.5, top_k=8)
FIVE = sdvar.ScalePyramid((1, 2, 3, 4, 5))


def compositions(total):
    """All ways to cut so many scales into spans."""
    for cuts in itertools.product((False, True), repeat=max(0, total - 1)):
        bounds = [0, *(k + 1 for k, cut in enumerate(cuts) if cut), total]
        yield tuple(b - a for a, b in zip(bounds, bounds[1:])) if total else ()


def random_costs(batch, scales, seed):
    """Costs that follow no rule at all, so that only the best schedule is the best."""
    generator = np.random.default_rng(seed)
    rows = {step: np.concatenate(([0], generator.random(batch))) for step in every_step(scales, True)}
    return CostTable(batch, rows)


def random_accepted(images, scales, seed):
    return np.random.default_rng(seed).random((images, scales)) < 0.6


@pytest.fixture(scope="module")
def recorded():
    """A pair in float64 of which some drafted scales are accepted, six images, and where the draft agrees on them."""
    pair = close_pair()
    labels, seeds = labels_and_seeds(6, 0, pair.num_classes, pair.device)
    agreement = measure_agreement(pair, SAMPLING, 6, 4, lossy_strategies(4))
    assert 0 < agreement.accepted[:, :3].mean() < 1
    return pair, labels, seeds + SEED_OFFSET, agreement


STRATEGIES = [
    *(sdvar.Speculative(gamma) for gamma in (1, 2, 3, 5)),
    *(sdvar.Speculative(sdvar.Spans(spans)) for spans in ((2, 2), (1, 3), (3, 1), (4,), (1, 2, 1), (1,))),
    sdvar.Speculative(sdvar.Adaptive(2, 1, 3)),
    sdvar.Speculative(sdvar.TokenBudget(14)),
    *(sdvar.Speculative(sdvar.Spans((2, 1)), verify_scales=end) for end in range(4)),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_replay_does_what_a_decode_does(recorded, strategy):
    pair, labels, seeds, agreement = recorded
    clock = Clock("cpu")
    stats = sdvar.decode(pair, labels, seeds, strategy, SAMPLING, images=False, clock=clock).stats
    replay = Replay(strategy, agreement.accepted, pair.pyramid)
    for model in ("draft", "target"):
        read = [(step, images) for step, images in replay.steps if step.op == model]
        assert sum(images for _, images in read) == getattr(stats, f"{model}_calls").sum()
        tokens = sum(images * pair.pyramid.span_tokens(step.first, step.last) for step, images in read)
        assert tokens == getattr(stats, f"{model}_tokens").sum()
    stretches = clock.stretches()
    ran = [s.work for s in stretches if s.work is not None and s.first < s.last]
    passes = [(Step(w.model, w.first, w.last, w.logits_from), w.rows // 2) for w in ran]  # two guidance branches
    assert [entry for entry in replay.steps if entry[0].op in ("draft", "target")] == passes
    begun = {s.part for s in stretches if s.work is not None and s.first == s.last}
    assert {step.op for step, _ in replay.steps if step.op.startswith("begin")} == {f"begin_{part}" for part in begun}
    for scale in range(4):
        ops = [step.op for step, _ in replay.steps if step.first == scale]
        sampled = sum(s.part == "sampling" and s.first == scale for s in stretches)
        assert sampled == ops.count("propose") + ops.count("commit") + 2 * ops.count("settle")  # a pick and the rule


@pytest.mark.parametrize("seed", range(4))
def test_expected_time_is_the_mean_over_all_batches(seed):
    scales, batch = 4, 2
    accepted, costs = random_accepted(3, scales, seed), random_costs(batch, scales, seed)
    model, pyramid = SpanModel(accepted, costs), sdvar.ScalePyramid((1, 2, 3, 4))
    for end in range(1, scales + 1):
        for spans in compositions(end):
            strategy = sdvar.Speculative(sdvar.Spans(spans), verify_scales=end)
            rows = itertools.product(range(3), repeat=batch)
            mean = np.mean([Replay(strategy, accepted[list(each)], pyramid).seconds(costs) for each in rows])
            assert model.seconds(spans) == pytest.approx(mean)


@pytest.mark.parametrize("batch, seed", [(1, 0), (1, 1), (3, 2), (7, 3)])
def test_the_search_finds_the_best_of_all(batch, seed):
    model = SpanModel(random_accepted(20, 5, seed), random_costs(batch, 5, seed))
    for end in range(6):
        # scale 0 takes no pass: it is a span of its own
        every = sorted((model.seconds(spans), spans) for spans in compositions(end) if spans[:1] in ((), (1,)))
        found = model.search(end, keep=4)
        assert [spans for _, spans in found] == [spans for _, spans in every[:4]]
        assert [seconds for seconds, _ in found] == pytest.approx([seconds for seconds, _ in every[:4]])


def test_a_draft_that_is_always_right_and_free_is_used_to_the_end():
    steps = every_step(5, False)
    costs = CostTable(4, {step: np.full(5, float(step.op == "target")) * (np.arange(5) > 0) for step in steps})
    right, wrong = np.ones((3, 5), dtype=bool), np.zeros((3, 5), dtype=bool)
    assert SpanModel(right, costs).search(5, 1) == [(1.0, (1, 4))]
    assert SpanModel(wrong, costs).search(5, 1)[0][0] == pytest.approx(4)  # whatever is drafted, all four passes


@pytest.mark.parametrize("seed", range(3))
def test_candidates_are_the_baseline_every_fixed_gamma_and_the_best(seed):
    agreement, costs = Agreement(random_accepted(30, 5, seed), None, {}), random_costs(3, 5, seed)
    found = find_candidates(agreement, costs, FIVE)
    assert {"baseline", *(f"fixed_{gamma}" for gamma in range(1, 4))} < {one.name for one in found}
    modelled = [one.seconds for one in found if one.seconds is not None]
    assert modelled == sorted(modelled)
    assert found[0].seconds == modelled[0]
    assert all(one.strategy.lossless and one.differing == 0 for one in found)
    best = min(SpanModel(agreement.accepted, costs).seconds(spans) for spans in compositions(5))
    others = [one.seconds for one in found if one.seconds is not None and not one.name.startswith("fixed")]
    assert min(others) == pytest.approx(best)
    fixed = next(one for one in found if one.name == "fixed_2")
    assert fixed.seconds == mean_seconds(sdvar.Speculative(2), agreement.accepted, FIVE, costs, 64)


def test_the_best_schedule_is_also_tried_with_picks_of_the_target_as_drafts():
    steps = every_step(5, False)
    costs = CostTable(1, {step: np.array([0.0, 1.0 if step.op == "target" else 0.01]) for step in steps})
    found = find_candidates(Agreement(np.ones((4, 5), dtype=bool), None, {}), costs, FIVE)
    assert found[-1].strategy == sdvar.Speculative(sdvar.Spans((1, 4)), redraft="target")
    assert found[-1].seconds is None  # what it takes is only measured


def test_lossy_candidates_differ_by_no_more_than_allowed():
    differing = {strategy: 0.1 * (i + 1) for i, strategy in enumerate(lossy_strategies(5))}  # 0.1 for the draft alone
    steps = every_step(5, True)
    costs = CostTable(1, {step: np.array([0.0, 1.0 if step.op == "target" else 0.01]) for step in steps})
    agreement = Agreement(np.ones((4, 5), dtype=bool), None, differing)

    def fastest(limit):
        return find_candidates(agreement, costs, FIVE, sdvar.Speculative(max_disagreement=limit))[0]

    assert fastest(0.1).strategy == sdvar.Baseline("draft")
    differing[sdvar.Baseline("draft")] = 0.9
    assert fastest(0.2).strategy == sdvar.Handoff(1, first="target")
    assert fastest(0.2).differing == pytest.approx(0.2)
    assert fastest(0.1).name in ("spans_1_4", "fixed_3")  # the same under two names
    differing[sdvar.Handoff(4, first="draft")] = 0.05
    costs.seconds[target_pass(1, 5, 4)][1] = 0.1
    assert fastest(0.1).strategy == sdvar.Handoff(4, first="draft")
    differing[sdvar.Parallel((1, 1, 3))] = 0.02
    costs.seconds[target_pass(2, 5)][1] = 0.001
    costs.seconds[target_pass(1, 2)][1] = 0.001
    assert (fastest(0.02).strategy, fastest(0.02).name) == (sdvar.Parallel((1, 1, 3)), "parallel_1_1_3")


@pytest.mark.parametrize(
    ("spans", "stops"),
    [((1, 4), [1, 5]), ((1, 1, 3), [1, 2, 5]), ((1, 2), [1, 3, 5]), ((1, 1, 2), [1, 2, 4, 5]), ((2, 2), [1, 2, 4, 5])],
)
def test_the_time_of_scales_in_parallel_is_that_of_its_passes(spans, stops):
    """In the middle of the pyramid too, and where the last span is repeated and cut."""
    costs, strategy = random_costs(2, 5, 0), sdvar.Parallel(spans)
    steps = [NOISE, BEGIN_TARGET, *(target_pass(a, b) for a, b in zip(stops, stops[1:]))]
    steps += [at("commit", scale) for scale in range(5)]
    seconds = SpanModel(random_accepted(3, 5, 0), costs).parallel_seconds(strategy)
    assert seconds == pytest.approx(sum(costs.of(step, 2) for step in steps))


def test_spans_of_one_scale_draft_nothing():
    assert spans_strategy((1, 1, 1), 3) == sdvar.Baseline()
    assert spans_strategy((1, 1), 3) == sdvar.Handoff(2, first="target")
    assert spans_strategy((), 3) == sdvar.Baseline("draft")
    assert spans_strategy((2, 1), 3) == sdvar.Speculative(sdvar.Spans((2, 1)))
    assert spans_strategy((2,), 3) == sdvar.Speculative(sdvar.Spans((2,)), verify_scales=2)


def test_lossy_shares_are_those_of_real_decodes(recorded):
    pair, labels, seeds, agreement = recorded
    tokens = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), SAMPLING, images=False).tokens
    for end in range(1, 4):
        tail = sdvar.Speculative(sdvar.Spans((end,)), verify_scales=end)
        other = sdvar.decode(pair, labels, seeds, tail, SAMPLING, images=False).tokens
        share = np.mean([(torch.cat(tokens, 1) != torch.cat(other, 1)).double().mean(1).numpy()])
        assert agreement.differing[sdvar.Handoff(end, first="target")] == pytest.approx(share)
    assert set(agreement.differing) == set(lossy_strategies(4))


def test_simulated_scales_are_accepted_at_the_given_rates():
    found = simulated_agreement([1, 0.5, 0], 4000)
    assert found.accepted.mean(0) == pytest.approx([1, 0.5, 0], abs=0.05)


def test_costs_are_interpolated_between_sizes_and_estimated_where_not_measured():
    assert group_sizes(6) == [1, 2, 4, 6]
    assert group_sizes(8) == [1, 2, 4, 8]
    assert group_sizes(1) == [1]
    steps, sizes = every_step(5, False), group_sizes(6)

    def seconds(step, size):  # of passes: a constant, positions, query-key pairs
        pairs = sum(FIVE.tokens[k] * FIVE.offsets[k + 1] for k in range(step.first, step.last))
        return 1 + size * (0.1 * FIVE.span_tokens(step.first, step.last) + 0.01 * pairs)

    measured = {(step, size): seconds(step, size) for step in steps for size in sizes}
    unknown = [(target_pass(1, 4), 6), (target_pass(2, 5), 2), (draft_pass(1, 3), 4)]
    fewer = {point: taken for point, taken in measured.items() if point not in unknown}
    for known in (measured, fewer):
        costs = cost_table(known, steps, FIVE, 6, padded=False)
        for step, size in [*unknown, (draft_pass(1, 2), 4)]:
            assert costs.of(step, size) == pytest.approx(seconds(step, size))
        assert costs.of(target_pass(2, 5), 5) == pytest.approx(seconds(target_pass(2, 5), 5))
        assert costs.of(target_pass(2, 5), 0) == 0
    padded = cost_table(measured, steps, FIVE, 6, padded=True)
    assert (
        padded.of(target_pass(2, 5), 3)
        == padded.of(target_pass(2, 5), 4)
        == pytest.approx(seconds(target_pass(2, 5), 4))
    )
    assert costs.expected(target_pass(2, 5), 0.0) == 0
    assert costs.expected(target_pass(2, 5), 1.0) == pytest.approx(costs.of(target_pass(2, 5), 6))
    thrown = [math.comb(6, n) * 0.25**n * 0.75 ** (6 - n) * costs.of(target_pass(2, 5), n) for n in range(7)]
    assert costs.expected(target_pass(2, 5), 0.25) == pytest.approx(sum(thrown))


def test_a_pass_without_the_null_branch_is_estimated_at_half_the_rows():
    steps, guided = every_step(5, False), {"target": 3}  # the draft has guidance inside

    def seconds(step, size):
        return 1 + 0.1 * size * (2 if step.wanted < guided.get(step.op, 0) else 1) * FIVE.span_tokens(
            step.first, step.last
        )

    unknown = [target_pass(1, 4), target_pass(3, 5), draft_pass(2, 4)]
    known = {(step, size): seconds(step, size) for step in steps for size in group_sizes(4) if step not in unknown}
    costs = cost_table(known, steps, FIVE, 4, padded=False, guided_scales=guided)
    assert [costs.of(step, 4) for step in unknown] == pytest.approx([seconds(step, 4) for step in unknown])


def test_every_step_is_measured_on_a_real_pair(recorded):
    pair = recorded[0]
    costs = measure_costs(pair, SAMPLING, 3, seconds=0.01, handoffs=True)
    assert set(costs.seconds) == set(every_step(4, True))
    assert all(row.shape == (4,) and row[0] == 0 and (row[1:] > 0).all() for row in costs.seconds.values())


def timed(*seconds):
    return Timed(seconds=list(seconds))


def test_only_what_is_faster_beyond_noise_displaces_the_first():
    first = timed(10, 11, 9, 10, 10.5)
    within, beyond, most = timed(9, 12, 8, 11, 10), timed(8, 9, 7.5, 8, 8.5), timed(7, 8, 6.5, 7, 7.5)
    assert not faster(first, first)
    assert not faster(within, first)
    assert faster(beyond, first)
    everything = {"first": first, "within": within, "beyond": beyond, "most": most, "baseline": timed(*[12] * 5)}
    assert choose(["first", "within", "baseline"], everything) == "first"
    assert choose(["first", "baseline", "beyond", "within", "most"], everything) == "most"
    assert choose(["baseline", "first", "within"], everything) == "first"  # expected to lose, and gains beyond noise


def test_what_gained_nothing_is_not_recommended():
    everything = {"noisy": timed(30, 11, 9, 8, 28), "good": timed(9, 9, 9, 9, 9), "baseline": timed(*[10] * 5)}
    assert choose(["noisy", "baseline"], everything) == "baseline"
    assert choose(["noisy", "good", "baseline"], everything) == "good"
    everything["lucky"] = timed(9, 13, 9, 14, 9)
    assert choose(["lucky", "baseline"], everything) == "lucky"  # the model expected it, and nothing speaks against it
    assert choose(["baseline", "lucky"], everything) == "baseline"
    assert choose(["baseline", "lucky", "good"], everything) == "good"


def test_what_is_timed_computes_no_class_prefix(monkeypatch):
    """Else the strategy that comes first in a turn would pay for all others."""
    pair, computed = close_pair((1, 2, 3)), []

    def noted(*arguments, **options):
        before = pair.target.prefixes.computed + pair.draft.prefixes.computed
        result = decode(*arguments, **options)
        if not cuda_graphs._allowed.get():  # timed
            computed.append(pair.target.prefixes.computed + pair.draft.prefixes.computed - before)
        return result

    monkeypatch.setattr(comparison, "decode_as_given", noted)
    strategies = {"baseline": sdvar.Baseline(), "a": sdvar.Speculative(1)}
    compare(strategies, pair, SAMPLING, 1, seconds=0.0, turns=(4, 4))
    assert computed == [0] * 8
    assert pair.target.prefixes.computed > 4
