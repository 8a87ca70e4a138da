"""The likelihood audit against enumerated pyramids, and its p-values over many runs of lossless rules."""

from __future__ import annotations

import dataclasses
import math

import pytest
import scipy.stats
import torch

import sdvar
from sdvar.audit import Scores, score
from sdvar.audit.significance import kolmogorov_p_value
from tests.enumeration import Tiny, exact_probabilities, tiny_pair
from tests.random_pairs import close_pair

LEVEL = 1e-4
SMALL = Tiny((1, 2, 2), 2, label=3)
SAMPLINGS = {
    "plain": sdvar.Sampling(cfg=1.5),
    "top_k": sdvar.Sampling(cfg=0.5, top_k=1),
    "top_p": sdvar.Sampling(cfg=0.5, top_p=0.75, temperature=1.3),
}


def outcomes(tiny):
    """Every outcome of a pyramid, as tokens, with numbers in place of seeds."""
    every = torch.cartesian_prod(*[torch.arange(tiny.vocabulary)] * tiny.tokens)
    return [tiny.label] * len(every), range(len(every)), list(tiny_pair(tiny, torch.float64).pyramid.split(every))


@pytest.mark.parametrize("name", SAMPLINGS)
def test_mean_and_variance_are_the_exact_ones(name):
    sampling = SAMPLINGS[name]
    found = score(tiny_pair(SMALL, torch.float64), *outcomes(SMALL), sampling)
    exact = exact_probabilities(SMALL, sampling)
    possible = exact > 0
    assert torch.equal(found.outside.sum(1) == 0, possible)
    assert torch.allclose(found.nats.sum(1)[possible], -exact[possible].log(), atol=1e-9)
    drift = (found.nats - found.entropy).sum(1)
    weights = exact[possible]
    assert abs(float((weights * drift[possible]).sum())) < 1e-9
    variance = float((weights * drift[possible].square()).sum())
    assert variance == pytest.approx(float((weights * found.variance.sum(1)[possible]).sum()), abs=1e-9)
    assert (variance > 0.1) == (name != "top_k")  # the best token alone leaves no choice


def test_without_filters_the_unfiltered_likelihood_is_the_same_and_with_them_it_covers_all_tokens():
    pair, batch = tiny_pair(SMALL, torch.float64), outcomes(SMALL)
    plain, filtered = (score(pair, *batch, sampling) for sampling in (sdvar.Sampling(cfg=0.5), SAMPLINGS["top_k"]))
    assert torch.allclose(plain.unfiltered, plain.nats)
    assert torch.allclose(filtered.unfiltered, plain.nats)
    assert filtered.outside.sum() > 0 and filtered.ranks.sum() == filtered.inside.sum()


def test_ranks_begin_with_the_most_likely_token_and_equals_share_theirs():
    """Of two equally likely tokens neither comes first; the ranks of all tokens fill 0 to 1."""
    from sdvar.audit.scoring import _score_positions

    logits = torch.tensor([0.5, 0.2, 0.2, 0.1], dtype=torch.float64).log().expand(4, 4)
    for part in (0.0, 0.25, 1.0):
        _, ranks = _score_positions(logits, torch.arange(4), torch.full((4,), part).double(), sdvar.Sampling())
        assert ranks.tolist() == pytest.approx([0.5 * part, 0.5 + 0.4 * part, 0.5 + 0.4 * part, 0.9 + 0.1 * part])


def test_scores_of_parts_are_those_of_the_whole(monkeypatch):
    pair = close_pair()
    labels, seeds = list(range(7)), list(range(100, 107))
    result = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), images=False)
    whole = score(pair, labels, seeds, result.tokens)
    parts = [
        score(pair, labels[part], seeds[part], [scale[part] for scale in result.tokens])
        for part in (slice(0, 3), slice(3, 7))
    ]
    monkeypatch.setattr("sdvar.audit.scoring.LOGITS_TOGETHER", {"cpu": 1})
    for other in (Scores.joined(parts), score(pair, labels, seeds, result.tokens)):
        for field in dataclasses.fields(Scores):
            assert torch.allclose(getattr(whole, field.name), getattr(other, field.name))
    assert whole.images == 7 and whole.nats.shape == (7, len(pair.pyramid))


def p_values(strategy, runs, images):
    """By run the p-value of z, of the last scale's ranks, and of all tests together."""
    tiny = Tiny((1, 2, 2), 4, label=0)
    pair, found = tiny_pair(tiny, torch.float32), []
    seeds = torch.arange(runs * images)
    tokens = [
        sdvar.decode(pair, [tiny.label] * len(part), part, strategy, SAMPLINGS["plain"], images=False).tokens
        for part in seeds.split(2_000)
    ]
    tokens = [torch.cat(scale) for scale in zip(*tokens)]
    for run in range(runs):
        part = slice(run * images, (run + 1) * images)
        ours = [scale[part] for scale in tokens]
        scores = score(pair, [tiny.label] * images, seeds[part], ours, SAMPLINGS["plain"])
        found.append((scores.p_value, scores.rank_p_values[-1], scores.smallest_p_value))
    return zip(*found)


@pytest.mark.parametrize("runs", [60, pytest.param(500, marks=pytest.mark.proof)])
@pytest.mark.parametrize("rule", [sdvar.Coupled(), sdvar.Rejection()], ids=repr)
def test_p_values_of_lossless_rules_are_uniform(rule, runs):
    of_z, of_ranks, of_all = p_values(sdvar.Speculative(2, rule), runs, images=60)
    assert scipy.stats.kstest(of_z, "uniform").pvalue > LEVEL
    assert scipy.stats.kstest(of_ranks, "uniform").pvalue > LEVEL
    assert sum(p < 0.05 for p in of_all) <= scipy.stats.binom.ppf(1 - LEVEL, runs, 0.05)


@pytest.mark.parametrize("strategy", [
    sdvar.Baseline("draft"), sdvar.Handoff(2),
    sdvar.Speculative(2, sdvar.Match(0.5)), sdvar.Speculative(2, sdvar.KL(0.5)),
], ids=repr)  # fmt: skip
def test_lossy_is_noticed(strategy):
    _, _, of_all = p_values(strategy, runs=1, images=2_000)
    assert next(iter(of_all)) < LEVEL


@pytest.mark.parametrize("count", [50, 500, 5_000])
def test_p_value_of_the_largest_distance(count):
    for distance in (0.5 / math.sqrt(count), 1.2 / math.sqrt(count), 1.8 / math.sqrt(count)):
        assert kolmogorov_p_value(distance, count) == pytest.approx(scipy.stats.kstwo.sf(distance, count), rel=0.1)


def test_bad_input_is_one_error_before_any_model_runs():
    pair = close_pair()
    tokens = sdvar.decode(pair, [0, 1], [0, 1], sdvar.Baseline(), images=False).tokens
    with pytest.raises(ValueError, match="tokens: expected those of 1 images, got 2"):
        score(pair, [0], [0], tokens)
    with pytest.raises(ValueError, match="more_smooth"):
        score(pair, [0, 1], [0, 1], tokens, sdvar.Sampling(more_smooth=True))
    with pytest.raises(ValueError, match="labels: expected 0 to 9"):
        score(pair, [0, 11], [0, 1], tokens)
