"""After every round each key in either cache is what a fresh pass over the committed scales gives."""

import pytest
import torch

import sdvar
from sdvar.decoding import Session
from tests.random_pairs import close_pair


def check_caches(session: Session) -> None:
    """A cache may be behind, never wrong."""
    pyramid, canvas = session.pyramid, session.canvas
    for which in ("draft", "target"):
        stepper = session.stepper(which)
        for i in range(session.batch):
            assert stepper.cached[i] <= canvas.scales[i]
            if stepper.cached[i] == 0:
                continue
            tokens = [t[i : i + 1] for t in pyramid.split(canvas.tokens)]
            end = pyramid.offsets[stepper.cached[i]]
            inputs = session.pair.tokenizer.var_inputs(tokens)[:, : end - pyramid.tokens[0]]
            for row, label in ((i, session.labels[i]), (i + session.batch, session.pair.num_classes)):
                fresh = stepper.model.new_cache(1)
                conditioning = stepper.model.condition(torch.tensor([int(label)]))
                stepper.model.forward_span(conditioning, inputs, 0, stepper.cached[i], fresh)
                for ours, expected in ((stepper.cache.keys, fresh.keys), (stepper.cache.values, fresh.values)):
                    torch.testing.assert_close(ours[:, row, :, :end], expected[:, 0, :, :end], atol=1e-10, rtol=0)


@pytest.mark.parametrize("rule", [sdvar.Coupled(), sdvar.Match(0.4, "draft"), sdvar.Match(0.4, "target")])
@pytest.mark.parametrize("gamma", [1, 2, 4])
def test_caches_after_every_round(monkeypatch, rule, gamma):
    pair = close_pair((1, 2, 2, 3, 4))
    rounds, original = [], sdvar.Speculative._round

    def checked(self, session, images, scale, length):
        original(self, session, images, scale, length)
        assert all(session.canvas.scales[i] > scale for i in images)  # every round commits at least one scale
        rounds.append(
            [session.stepper(w).cached[i] < session.canvas.scales[i] for w in ("draft", "target") for i in images]
        )
        check_caches(session)

    monkeypatch.setattr(sdvar.Speculative, "_round", checked)
    with torch.no_grad():
        sdvar.decode(pair, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], sdvar.Speculative(gamma, rule), images=False)
    assert rounds
    assert any(any(behind) for behind in rounds), "no cache was ever behind: the catch-up was not exercised"


def test_a_stale_cache_is_noticed():
    """The test of the test: one round that forgets to truncate after a rejection."""
    pair = close_pair((1, 2, 2, 3, 4))
    session = Session(pair, torch.tensor([0]), torch.tensor([0]), sdvar.Sampling())
    with torch.no_grad():
        session.decode_plain("target", 3)
        session.canvas.tokens[0, 0] = (session.canvas.tokens[0, 0] + 1) % 32
        with pytest.raises(AssertionError):
            check_caches(session)
