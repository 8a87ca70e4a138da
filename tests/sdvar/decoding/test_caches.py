"""After every round each key in either cache is what a fresh pass over the committed scales gives."""

import pytest
import torch

import sdvar
from sdvar.decoding import DecodeState
from sdvar.decoding.strategies.rounds import Rounds
from sdvar.models.quantizer import MultiScaleQuantizer
from sdvar.selftest.cache_error import cache_error
from tests.random_pairs import close_pair, random_pair

LIMIT = 1e-10  # float64


@pytest.mark.parametrize("options", [
    {}, {"redraft": "target"}, {"acceptance": sdvar.Rejection()}, {"acceptance": sdvar.Match(0.4, "draft")},
    {"acceptance": sdvar.Match(0.4, "target")}, {"acceptance": sdvar.Match(0.4, "target"), "redraft": "target"},
    {"acceptance": sdvar.Top1(0.4)}, {"verify_scales": 4},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("gamma", [1, 2, 4, sdvar.Adaptive(1, 1, 4), sdvar.TokenBudget(14)], ids=str)
@pytest.mark.one_in(7)
def test_caches_after_every_round(monkeypatch, options, gamma):
    pair = close_pair((1, 2, 2, 3, 4))
    rounds, original = [], Rounds._round

    def checked(self, images, scale, *plan):
        original(self, images, scale, *plan)
        state = self.state
        progress = [state.maps.progress[i] for i in images]
        assert all(image.committed > scale for image in progress)  # every round commits at least one scale
        rounds.append([image.of(which).cached < image.committed for image in progress for which in ("draft", "target")])
        assert cache_error(state) < LIMIT

    monkeypatch.setattr(Rounds, "_round", checked)
    with torch.no_grad():
        sdvar.decode(pair, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], sdvar.Speculative(gamma, **options), images=False)
    assert rounds
    assert any(any(behind) for behind in rounds), "no cache was ever behind: the catch-up was not exercised"


@pytest.mark.parametrize("position", [0, 1])
def test_a_stale_cache_is_noticed(position):
    """The test of the test: a token changes after keys were computed from it."""
    pair = close_pair((1, 2, 2, 3, 4))
    state = DecodeState(pair, torch.tensor([0, 1]), torch.tensor([0, 1]), sdvar.Sampling())
    with torch.no_grad():
        state.decode_plain("target", 3)
        assert cache_error(state) < LIMIT
        state.maps.tokens[1, position] = (state.maps.tokens[1, position] + 1) % 32
        assert cache_error(state) > 1e-3


def test_a_cache_that_is_ahead_is_noticed():
    pair = close_pair()
    state = DecodeState(pair, torch.tensor([0]), torch.tensor([0]), sdvar.Sampling())
    with torch.no_grad():
        state.decode_plain("target", 3)
    state.maps.progress[0].committed = 2
    assert cache_error(state) == float("inf")


@pytest.mark.parametrize("cfg", [0.0, 1.5])
def test_a_cache_that_started_blind(cfg):
    pair = close_pair()
    state = DecodeState(pair, torch.tensor([0, 1]), torch.tensor([0, 1]), sdvar.Sampling(cfg=cfg))
    with torch.no_grad():
        sdvar.Handoff(2, prefix="none").run(state)
    assert cache_error(state) < LIMIT


def test_what_follows_from_an_accepted_scale_is_computed_once(monkeypatch):
    """A draft that equals the target: it drafts scales 1 and 2; scale 3 is the bonus, and scale 4 the last."""
    pair, computed = random_pair((1, 2, 2, 3, 4), same=True), []
    added = MultiScaleQuantizer.added

    def noted(self, f_hat, code, scale):
        computed.append(scale)
        return added(self, f_hat, code, scale)

    monkeypatch.setattr(MultiScaleQuantizer, "added", noted)
    maps = []
    for strategy, scales in ((sdvar.Speculative(2), [0, 1, 2, 3]), (sdvar.Baseline(), [0, 1, 2, 3])):
        state = DecodeState(pair, torch.tensor([1, 2]), torch.tensor([5, 6]), sdvar.Sampling())
        strategy.run(state)
        assert computed == scales
        computed.clear()
        maps.append(state.maps)
    for name in ("tokens", "f_hat", "inputs"):
        assert torch.equal(getattr(maps[0], name), getattr(maps[1], name))
