"""Lossless strategies draw from the target's distribution: all outcomes of tiny pyramids, by chi-square.

The seeds are fixed, so a p-value is the same in every run. A lossless strategy must stay above LEVEL, everything else
below it: the second half of the file is the test of the test.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging

import pytest
import scipy.stats
import torch

import sdvar
from sdvar import noise
from sdvar.models.kv_cache import LayerCache
from tests.enumeration import SAMPLES, Tiny, chi_square, exact_probabilities, sampled_counts
from tests.faulty_rules import DrawsFromTheTarget

log = logging.getLogger(__name__)

LEVEL = 1e-4

TINY = {
    "112": Tiny((1, 1, 2), 3, label=4),
    "122": Tiny((1, 2, 2), 2, label=3),
    "111": Tiny((1, 1, 1), 8, label=0),
    "1111": Tiny((1, 1, 1, 1), 5, label=6),
}
# The first drafted map has four positions, each with several tokens that may be drawn again
FIRST_MAP = Tiny((1, 2, 2), 4, label=0, scales=2)
FIVE_SCALES = Tiny((1,) * 5, 4, label=6)  # three of them are drafted
PLAIN = sdvar.Sampling(cfg=1.5)
FILTERS = {
    "112": {"plain": PLAIN, "top_k": sdvar.Sampling(top_k=2), "top_p": sdvar.Sampling(top_p=0.85, temperature=1.3)},
    # of two tokens top-k leaves both or one
    "122": {"plain": PLAIN, "top_p": sdvar.Sampling(cfg=0.5, top_p=0.75)},
    "111": {"plain": PLAIN, "top_k": sdvar.Sampling(top_k=5), "top_p": sdvar.Sampling(cfg=0.5, top_p=0.9)},
    "1111": {"plain": PLAIN, "top_k": sdvar.Sampling(top_k=4), "top_p": sdvar.Sampling(top_p=0.9, temperature=1.5)},
}
MIN_CELLS = {"plain": 250, "top_k": 60, "top_p": 200}
SCHEDULES = {"1": 1, "2": 2, "3": 3, "adaptive": sdvar.Adaptive(1, 1, 3), "budget": sdvar.TokenBudget(5),
             "spans": sdvar.Spans((1, 2))}  # fmt: skip
LOSSLESS = {
    **{f"coupled-{name}": sdvar.Speculative(gamma) for name, gamma in SCHEDULES.items()},
    **{f"coupled-{name}-reuse": sdvar.Speculative(gamma, redraft="target") for name, gamma in SCHEDULES.items()},
    **{f"rejection-{name}": sdvar.Speculative(gamma, sdvar.Rejection()) for name, gamma in SCHEDULES.items()},
}


def p_value(tiny, strategy, sampling=PLAIN, first_seed=0):
    """The test's p-value and its number of cells."""
    p, cells = chi_square(sampled_counts(tiny, sampling, strategy, first_seed), exact_probabilities(tiny, sampling))
    log.info("%s %s %s: p = %.3g, %d cells", tiny, sampling, strategy, p, cells)
    return p, cells


def settings():
    """All strategies x pyramids x filters. Not marked proof: each strategy once, going round the rest in turn."""
    places = [(tiny, name) for tiny, named in FILTERS.items() for name in named]
    for number, (strategy, place) in enumerate(itertools.product(LOSSLESS, places)):
        tiny, name = place
        default = places.index(place) == list(LOSSLESS).index(strategy) * 5 % len(places)
        marks = () if default else pytest.mark.proof
        yield pytest.param(tiny, name, strategy, number * SAMPLES, marks=marks, id=f"{strategy}-{tiny}-{name}")


@pytest.mark.parametrize("tiny, name, strategy, first_seed", settings())
@pytest.mark.one_in(3)
def test_lossless(tiny, name, strategy, first_seed):
    assert LOSSLESS[strategy].lossless
    p, cells = p_value(TINY[tiny], LOSSLESS[strategy], FILTERS[tiny][name], first_seed)
    assert cells > MIN_CELLS[name], "too few likely outcomes: the test shows little"
    assert p > LEVEL


@pytest.mark.parametrize("strategy", [
    sdvar.Baseline(), sdvar.Speculative(1, sdvar.Rejection()), sdvar.Speculative(1, sdvar.Neighbour(3, 0.0)),
], ids=repr)  # fmt: skip
@pytest.mark.one_in(3)
def test_lossless_joint_tokens_of_one_drafted_scale(strategy):
    """The four tokens of a drafted scale, each with several tokens to be drawn again: are they independent?"""
    p, cells = p_value(FIRST_MAP, strategy)
    assert cells > 200
    assert p > LEVEL


@pytest.mark.parametrize("strategy", [sdvar.Speculative(1, sdvar.Rejection()), sdvar.Speculative(2, sdvar.Rejection())])
@pytest.mark.one_in(2)
def test_lossless_with_guidance_by_scale(strategy):
    """Drafts and verifications on both sides of the scale from which on there is no guidance."""
    by_scale = sdvar.Sampling(cfg=[0.0, 2.0, 1.0, 0.0])
    p, cells = p_value(TINY["1111"], strategy, by_scale)
    assert cells > MIN_CELLS["plain"]
    assert p > LEVEL


@pytest.mark.parametrize("tiny, strategy", [
    ("111", sdvar.Baseline("draft")), ("111", sdvar.Handoff(1)), ("111", sdvar.Handoff(2, "target")),
    ("111", sdvar.Speculative(2, verify_scales=2)),
    ("122", sdvar.Speculative(2, sdvar.Match(0.75))), ("122", sdvar.Speculative(2, sdvar.Match(0.25, "target"))),
    ("111", sdvar.Speculative(2, sdvar.Top1(0.5))), ("122", sdvar.Speculative(1, sdvar.Top1(0.5))),
    ("111", sdvar.Speculative(2, sdvar.TopK(2, 1.0))), ("122", sdvar.Speculative(2, sdvar.KL(0.2))),
    ("111", sdvar.Speculative(2, sdvar.KL(0.5))), ("111", sdvar.Speculative(2, sdvar.Neighbour(2, 0.2))),
], ids=repr)  # fmt: skip
@pytest.mark.one_in(6)
def test_lossy_is_noticed(tiny, strategy):
    assert not strategy.lossless
    p, _ = p_value(TINY[tiny], strategy)
    assert p < LEVEL


@dataclasses.dataclass(frozen=True)
class KeepsTheDraft(sdvar.Acceptance):
    """Never looks at the target."""

    def judge(self, proposal):
        kept = torch.ones_like(proposal.drafted, dtype=torch.bool)
        return sdvar.Verdict(proposal.drafted, kept.all(1), kept)


@dataclasses.dataclass(frozen=True)
class CommitsWhatFell(sdvar.Acceptance):
    """Coupled, but a rejected scale keeps the drafted tokens."""

    def judge(self, proposal):
        agreed = proposal.drafted == proposal.picked
        return sdvar.Verdict(proposal.drafted, agreed.all(1), agreed)


@dataclasses.dataclass(frozen=True)
class KeepsWhatThePickKept(sdvar.Acceptance):
    """Coupled's test with Rejection's draw. Each belongs to the other half of its own rule, but where V = 2."""

    needs_draft_distribution = True

    def judge(self, proposal):
        agreed = proposal.drafted == proposal.picked
        drawn = ((proposal.p - proposal.q).clamp_min(0).log() + proposal.residual_noise()).argmax(-1)
        return sdvar.Verdict(torch.where(agreed, proposal.drafted, drawn), agreed.all(1), agreed)


@pytest.mark.parametrize("rule", [KeepsTheDraft(), CommitsWhatFell(), DrawsFromTheTarget(), KeepsWhatThePickKept()],
                         ids=lambda rule: type(rule).__name__)  # fmt: skip
@pytest.mark.parametrize("tiny", ["111", pytest.param("1111", marks=pytest.mark.proof)])
@pytest.mark.one_in(2)
def test_broken_rule_is_noticed(tiny, rule):
    p, _ = p_value(TINY[tiny], sdvar.Speculative(2, rule))
    assert p < LEVEL


def residual_from(stream="residual", scale=None, one_position=False):
    """A Proposal.residual_noise with another address."""

    def residual_noise(self):
        _, positions, vocabulary = self.target_logits.shape
        numbers = noise.gumbel(
            self.seeds, stream, self.scale if scale is None else scale, positions, vocabulary, self.target_logits.dtype
        )
        return numbers[:, :1].expand_as(numbers) if one_position else numbers

    return residual_noise


def accept_from(stream="accept", scale=None, one_position=False):
    """A Proposal.accept_noise with another address."""

    def accept_noise(self):
        numbers = noise.uniform(
            self.seeds, stream, self.scale if scale is None else scale, self.drafted.shape[1], 1, torch.float32
        )[..., 0]
        return numbers[:, :1].expand_as(numbers) if one_position else numbers

    return accept_noise


@pytest.mark.parametrize("tiny, name, broken", [
    (FIRST_MAP, "residual_noise", residual_from(stream="pick")),
    (FIVE_SCALES, "residual_noise", residual_from(stream="pick")),
    (FIVE_SCALES, "residual_noise", residual_from(scale=0)),
    (FIRST_MAP, "residual_noise", residual_from(one_position=True)),
    (FIVE_SCALES, "accept_noise", accept_from(stream="pick")),
    (FIVE_SCALES, "accept_noise", accept_from(scale=0)),
    (FIRST_MAP, "accept_noise", accept_from(one_position=True)),
], ids=["residual-reuses-pick", "residual-reuses-pick-of-five", "residual-forgets-scale", "residual-forgets-position",
        "accept-reuses-pick", "accept-forgets-scale", "accept-forgets-position"])  # fmt: skip
@pytest.mark.one_in(7)
def test_noise_used_twice_is_noticed(monkeypatch, tiny, name, broken):
    monkeypatch.setattr(sdvar.Proposal, name, broken)
    p, _ = p_value(tiny, sdvar.Speculative(2, sdvar.Rejection()))
    assert p < LEVEL


@pytest.mark.parametrize("rule", [sdvar.Coupled(), sdvar.Rejection()], ids=repr)
@pytest.mark.one_in(2)
def test_keys_of_rejected_scales_are_noticed(monkeypatch, rule):
    """A cache whose positions are written once only keeps the keys of rejected scales."""
    update = LayerCache.update

    def write_once(self, key, value, window):
        rows = slice(None) if window.rows is None else window.rows
        if window.start <= 1:  # the first pass of these images: the cache may have served others before
            self.keys[rows, :, window.start :] = 0
        old_key = self.keys[rows, :, window.start : window.end]
        old_value = self.values[rows, :, window.start : window.end]
        written = old_key.abs().sum(-1, keepdim=True) > 0
        return update(self, torch.where(written, old_key, key), torch.where(written, old_value, value), window)

    monkeypatch.setattr(LayerCache, "update", write_once)
    p, _ = p_value(TINY["1111"], sdvar.Speculative(2, rule))
    assert p < LEVEL
    p, _ = p_value(TINY["1111"], sdvar.Baseline())  # which rejects nothing
    assert p > LEVEL


P, Q = torch.tensor([[0.0, 0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)


def redrawn(rule, scale=0, p=P, q=Q):
    """Four positions of 5,000 images with the same p and q everywhere, whose drafts are all rejected: their tokens."""
    images, positions = 5_000, 4
    seeds = torch.arange(images)
    target, draft = (values.log().clamp_min(-1e4).expand(images, positions, 5) for values in (p, q))
    picked = (target + noise.gumbel(seeds, "pick", scale, positions, 5, torch.float64)).argmax(-1)
    drafted = torch.zeros_like(picked)
    codebook = torch.eye(5, dtype=torch.float64)
    proposal = sdvar.Proposal(scale, drafted, picked, target, draft, codebook, sdvar.Sampling(), seeds)
    verdict = rule.judge(proposal)
    assert not verdict.agreed.any() and not verdict.accepted.any()
    return verdict.tokens, picked


def dependence(a, b):
    """p-value of the chi-square test that two columns of tokens 1 .. 4 are independent."""
    table = ((a - 1) * 4 + b - 1).bincount(minlength=16).reshape(4, 4)
    return scipy.stats.chi2_contingency(table.numpy()).pvalue


@pytest.mark.parametrize("rule", [sdvar.Rejection(), sdvar.Neighbour(1, 0.0)], ids=repr)
def test_redrawn_tokens_are_independent(rule):
    """Between positions, scales and neighbouring seeds, and of the picks of the same address; and drawn from p."""
    tokens, picked = redrawn(rule)
    others, _ = redrawn(rule, scale=1)
    for i, j in itertools.combinations(range(4), 2):
        assert dependence(tokens[:, i], tokens[:, j]) > LEVEL
    for i in range(4):
        assert dependence(tokens[:, i], picked[:, i]) > LEVEL
        assert dependence(tokens[:, i], others[:, i]) > LEVEL
        assert dependence(tokens[1:, i], tokens[:-1, i]) > LEVEL
    counts = tokens.flatten().bincount(minlength=5)[1:].double()
    assert (
        scipy.stats.chisquare(counts, 20_000 * torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)).pvalue > LEVEL
    )


@pytest.mark.parametrize("broken", [{"one_position": True}, {"stream": "pick"}, {"scale": 0}], ids=repr)
@pytest.mark.parametrize("rule", [sdvar.Rejection(), sdvar.Neighbour(1, 0.0)], ids=repr)
def test_dependent_redraws_are_noticed(monkeypatch, rule, broken):
    monkeypatch.setattr(sdvar.Proposal, "residual_noise", residual_from(**broken))
    with pytest.raises(AssertionError):
        test_redrawn_tokens_are_independent(rule)


@pytest.mark.parametrize("rule", [sdvar.Rejection(), sdvar.Neighbour(1, 0.0)], ids=repr)
def test_rejected_where_nothing_is_left(monkeypatch, rule):
    """Rounding can reject a token where p = q, though max(p - q, 0) is zero then: the draw is from p."""
    monkeypatch.setattr(sdvar.Proposal, "accept_noise", lambda self: torch.full(self.drafted.shape, 1.0 + 1e-6))
    p = (P + 0.1) / 1.5
    tokens, _ = redrawn(rule, p=p, q=p)
    assert chi_square(tokens.flatten().bincount(minlength=5), p)[0] > LEVEL
