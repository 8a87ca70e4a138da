"""Each rule on proposals small enough to judge by hand, and a rule of the user's own."""

import math
import re

import pytest
import torch

import sdvar
from sdvar import noise
from tests.paths import ROOT
from tests.random_pairs import close_pair, random_pair, same_tokens


def proposal(drafted, p, q=None, picked=None, codebook=None, seeds=None, scale=1, sampling=None):
    """A proposal from probabilities (n, n_k, V); by default the picks are the most likely tokens."""
    drafted, p = torch.tensor(drafted), torch.tensor(p, dtype=torch.float64)
    logits = None if q is None else torch.tensor(q, dtype=torch.float64).log()
    return sdvar.Proposal(
        scale=scale,
        drafted=drafted,
        picked=p.argmax(-1) if picked is None else torch.tensor(picked),
        target_logits=p.log(),
        draft_logits=logits,
        codebook=torch.eye(p.shape[-1], dtype=torch.float64) if codebook is None else codebook,
        sampling=sampling or sdvar.Sampling(),
        seeds=torch.arange(len(drafted)) if seeds is None else seeds,
    )


def rows(*tokens, best=0.7, others=0.1):
    """Distributions over four tokens, (1, len(tokens), 4), with most of the mass on the given ones."""
    return [[[best if v == token else others for v in range(4)] for token in tokens]]


def test_coupled_commits_the_picks():
    verdict = sdvar.Coupled().judge(proposal([[1, 2]], rows(1, 3)))
    assert (verdict.tokens.tolist(), verdict.accepted.tolist()) == ([[1, 3]], [False])
    assert verdict.agreed.tolist() == [[True, False]]
    assert sdvar.Coupled().judge(proposal([[1, 3]], rows(1, 3))).accepted.all()


def test_match_keeps_what_it_says():
    p = torch.full((2, 4, 10), 0.1).tolist()
    case = proposal([[1, 2, 3, 4], [1, 2, 3, 4]], p, picked=[[1, 2, 9, 9], [1, 9, 9, 9]])
    for keep, standing in (("draft", [1, 2, 3, 4]), ("target", [1, 2, 9, 9])):
        verdict = sdvar.Match(0.5, keep).judge(case)
        assert verdict.accepted.tolist() == [True, False]
        assert verdict.tokens.tolist() == [standing, [1, 9, 9, 9]]


def test_top1_compares_with_the_most_likely_token_not_with_the_pick():
    case = proposal([[1, 2]], rows(1, 3), picked=[[0, 0]])
    verdict = sdvar.Top1(0.5).judge(case)
    assert verdict.agreed.tolist() == [[True, False]]
    assert verdict.tokens.tolist() == [[1, 2]]  # accepted: all drafted tokens
    rejected = sdvar.Top1(0.6).judge(case)
    assert not rejected.accepted.any()
    assert rejected.tokens.tolist() == [[0, 0]]  # the target's picks


def test_top_k_counts_ties_but_no_filtered_token():
    p = [[[0.5, 0.2, 0.2, 0.1]] * 4]
    verdict = sdvar.TopK(2, 0.5).judge(proposal([[0, 1, 2, 3]], p))
    assert verdict.agreed.tolist() == [[True, True, True, False]]
    filtered = proposal([[0, 1, 2, 3]], p, sampling=sdvar.Sampling(top_k=1))
    assert sdvar.TopK(3, 0.5).judge(filtered).agreed.tolist() == [[True, False, False, False]]
    assert sdvar.TopK(99, 1.0).judge(proposal([[0, 1, 2, 3]], p)).accepted.all()


def test_kl_by_hand_and_before_filtering():
    p, q = [[[0.499, 0.499, 0.001, 0.001]]], [[[0.25, 0.25, 0.25, 0.25]]]
    divergence = sum(a * math.log(a / 0.25) for a in p[0][0])
    for epsilon, accepted in ((divergence + 1e-9, True), (divergence - 1e-9, False)):
        for sampling in (sdvar.Sampling(), sdvar.Sampling(top_k=1)):  # top_k 1 filtered would be infinitely far
            case = proposal([[2]], p, q, sampling=sampling)
            verdict = sdvar.KL(epsilon).judge(case)
            assert verdict.accepted.item() is accepted
            assert verdict.tokens.item() == (2 if accepted else case.picked.item())


def test_rejection_keeps_by_ratio_and_draws_from_the_residual():
    seeds = torch.arange(4000)
    p, q = [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]
    case = proposal([[0]] * 4000, [[p]] * 4000, [[q]] * 4000, seeds=seeds)
    verdict = sdvar.Rejection().judge(case)
    kept = verdict.agreed[:, 0]
    assert torch.equal(kept, case.accept_noise()[:, 0] <= 0.25)
    assert (verdict.tokens[kept] == 0).all()
    drawn = torch.bincount(verdict.tokens[~kept, 0], minlength=4)
    assert drawn[:2].tolist() == [0, 0]  # where q holds more than p there is nothing left to draw
    expected = torch.tensor([0.25, 0.75]) * drawn.sum()
    assert ((drawn[2:] - expected) ** 2 / expected).sum() < 10.8  # chi-square, 1 degree of freedom, level 0.001
    assert torch.equal(verdict.accepted, kept)


def test_rejection_of_equal_distributions_keeps_everything():
    p = torch.rand(8, 5, 6, dtype=torch.float64).softmax(-1).tolist()
    assert sdvar.Rejection().judge(proposal(torch.randint(6, (8, 5)).tolist(), p, p)).agreed.all()


def test_rejection_with_no_residual_left_draws_from_the_targets(monkeypatch):
    monkeypatch.setattr(sdvar.Proposal, "accept_noise", lambda self: torch.full(self.drafted.shape, math.inf))
    p = [[[0.0, 1.0, 0.0, 0.0]]]
    assert sdvar.Rejection().judge(proposal([[1]], p, p)).tokens.item() == 1


def test_neighbour_adds_the_mass_of_near_entries():
    """Token 0 of a line of codebook vectors: its neighbours are 1, then 2, then 3."""
    line = torch.tensor([[0.0], [1.0], [3.0], [9.0]], dtype=torch.float64)
    p, q = [0.1, 0.2, 0.3, 0.4], [1.0, 1e-12, 1e-12, 1e-12]
    for k, delta, share in ((1, 0.5, 0.3), (2, 0.4, 0.3), (2, 0.5, 0.6), (3, 1.0, 1.0), (99, 1.0, 1.0), (3, 0.1, 0.1)):
        case = proposal([[0]] * 2000, [[p]] * 2000, [[q]] * 2000, codebook=line, seeds=torch.arange(2000))
        verdict = sdvar.Neighbour(k, delta).judge(case)
        assert torch.equal(verdict.agreed, case.accept_noise() <= share + 1e-12), (k, delta)
        drawn = set(verdict.tokens[~verdict.agreed].tolist())
        taken = {0.3: {0, 1}, 0.6: {0, 1, 2}, 1.0: {0, 1, 2, 3}, 0.1: {0}}[share]  # their mass moved to token 0
        assert drawn == {0, 1, 2, 3} - taken


def test_neighbour_without_mass_is_rejection():
    pair, batch = random_pair(), ([0, 1, 2], [4, 5, 6])
    rejection, neighbour = (
        sdvar.decode(pair, *batch, sdvar.Speculative(2, rule), images=False)
        for rule in (sdvar.Rejection(), sdvar.Neighbour(3, 0.0))
    )
    assert same_tokens(rejection, neighbour)


def test_noise_of_a_rule_is_that_of_its_addresses():
    seeds = torch.tensor([7, 8])
    case = proposal([[0, 1]] * 2, rows(0, 1) * 2, rows(0, 1) * 2, seeds=seeds, scale=3)
    assert torch.equal(case.accept_noise(), noise.uniform(seeds, "accept", 3, 2, 1, torch.float64)[..., 0])
    assert torch.equal(case.residual_noise(), noise.gumbel(seeds, "residual", 3, 2, 4, torch.float64))


def test_draft_distribution_is_there_only_for_rules_that_say_so():
    with pytest.raises(RuntimeError, match="needs_draft_distribution"):
        _ = proposal([[0]], rows(0)).q


def test_a_rule_of_the_users_own():
    """The example of docs/acceptance-rules.md, as printed there."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "acceptance-rules.md").read_text(), re.DOTALL)[1]
    exec(code, names := {})
    rule, pair, batch = names["LikelyEnough"], close_pair(), ([0, 1, 2, 3], [4, 5, 6, 7])
    strict, all_goes = (
        sdvar.decode(pair, *batch, sdvar.Speculative(3, rule(floor)), images=False) for floor in (1.0, 0.0)
    )
    assert same_tokens(strict, sdvar.decode(pair, *batch, sdvar.Baseline(), images=False))  # no scale is ever accepted
    assert strict.stats.target_calls.tolist() == [3] * 4
    assert all_goes.stats.target_calls.tolist() == [1] * 4
    assert not sdvar.Speculative(3, rule()).lossless


@pytest.mark.parametrize("make, error, words", [
    (lambda: sdvar.Top1(1.1), ValueError, "tau"), (lambda: sdvar.TopK(0), ValueError, "k"),
    (lambda: sdvar.TopK(2, -0.1), ValueError, "tau"), (lambda: sdvar.KL(-1), ValueError, "epsilon"),
    (lambda: sdvar.KL("a"), TypeError, "epsilon"), (lambda: sdvar.KL(float("nan")), ValueError, "epsilon"),
    (lambda: sdvar.Neighbour(2, 1.5), ValueError, "delta"), (lambda: sdvar.Neighbour(0, 0.5), ValueError, "k"),
    (lambda: sdvar.Neighbour(2, True), TypeError, "delta"),
])  # fmt: skip
def test_bad_arguments(make, error, words):
    with pytest.raises(error, match=f"^{words}: expected"):
        make()
