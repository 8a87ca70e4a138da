"""What gamma "auto" stands for, decided on costs that are given."""

import dataclasses

import numpy as np
import pytest
import torch

import sdvar
from sdvar.decoding.logits import Logits
from sdvar.decoding.state import DecodeState
from sdvar.planning import tuning
from sdvar.planning.agreement import Agreement
from sdvar.planning.candidates import BASELINE, Candidate
from sdvar.planning.comparison import Timed
from sdvar.planning.costs import CostTable, every_step
from tests.random_pairs import close_pair, random_pair, same_tokens

SAMPLING = sdvar.Sampling(cfg=1.5, top_k=8)
AUTO = sdvar.Speculative()
PLAIN = sdvar.Speculative(sdvar.Spans((1,)))


@pytest.fixture
def measured(monkeypatch):
    """Costs and times that a test sets: seconds of a pass by model, and of a decode's share of the baseline's time."""
    given = {"target": 1.0, "draft": 0.01, "accepted": True, "share": 0.5, "noise": 0.0, "plain": 0.01, "compared": []}

    def costs(pair, sampling, batch, seconds, handoffs=False):
        steps = every_step(len(pair.pyramid), handoffs)
        rows = np.minimum(np.arange(batch + 1), 1)
        return CostTable(batch, {step: rows * given.get(step.op, 0.001) for step in steps})

    def agreement(pair, sampling, images, together, lossy=()):
        accepted = np.full((images, len(pair.pyramid)), given["accepted"])
        return Agreement(accepted, accepted.mean(0), dict.fromkeys(lossy, 0.2))

    def compare(strategies, pair, sampling, batch, seconds, turns):
        given["compared"].append(list(strategies))
        wobble = 1 + given["noise"] * np.array([-2, -1, 0, 1, 2])
        shares = {name: 1.0 if name == BASELINE else given["share"] for name in strategies}
        return {
            name: Timed(seconds=list(share * (wobble if name != BASELINE else np.ones(5))), differing=[0.1])
            for name, share in shares.items()
        }

    monkeypatch.setattr(tuning, "measure_costs", costs)
    monkeypatch.setattr(tuning, "measure_agreement", agreement)
    monkeypatch.setattr(tuning, "compare", compare)
    monkeypatch.setattr(tuning, "_plain_seconds", lambda *_: given["plain"])
    return given


@pytest.fixture(scope="module")
def pair():
    return random_pair()


def test_a_draft_that_pays_is_used(pair, measured):
    choice = tuning.choose(AUTO, pair, SAMPLING, 2)
    assert choice.strategy.schedule.draft_length(pair.pyramid, 1, 1, 3) == 2  # all but the last scale
    assert choice.strategy.exact
    assert str(choice).startswith("gamma 'auto' is Speculative(")
    assert choice.reason == "2.00 ± 0.00 times plain decoding's speed at batch 2"


def test_nothing_is_timed_where_nothing_is_expected_to_gain(pair, measured):
    measured |= {"accepted": False, "draft": 0.3}
    choice = tuning.choose(AUTO, pair, SAMPLING, 2)
    assert choice.strategy == PLAIN
    assert measured["compared"] == []
    assert "is expected to run at 0." in choice.reason


@pytest.mark.parametrize(("share", "noise", "pays"), [(0.97, 0.0, True), (0.99, 0.0, False), (0.9, 0.1, False)])
def test_a_gain_must_exceed_noise_and_two_percent(pair, measured, share, noise, pays):
    measured |= {"share": share, "noise": noise}
    choice = tuning.choose(AUTO, pair, SAMPLING, 2)
    assert (choice.strategy != PLAIN) == pays
    assert f"{1 / share:.2f} ± " in choice.reason


def test_measuring_that_takes_too_long_is_not_begun(pair, measured):
    measured |= {"plain": 1.0}
    choice = tuning.choose(AUTO, pair, SAMPLING, 2, seconds=15)
    assert choice.strategy == PLAIN
    assert choice.reason == "measuring would take about 18 s, 15 s are allowed for it"
    assert (
        tuning.choose(AUTO, pair, SAMPLING, 2, seconds=15, batches=10_000).strategy != PLAIN
    )  # two percent of the run


def test_the_time_to_spend():
    assert tuning.allowed_seconds(15, 0.1, 0) == 15
    assert tuning.allowed_seconds(15, 0.1, 20) == pytest.approx(1)  # of a very short run no more than half
    assert tuning.allowed_seconds(15, 0.1, 200) == pytest.approx(6)  # a short run: as much as suffices
    assert tuning.allowed_seconds(15, 0.1, 1000) == pytest.approx(10)  # a tenth
    assert tuning.allowed_seconds(15, 0.1, 5000) == 15
    assert tuning.allowed_seconds(15, 0.1, 20_000) == pytest.approx(40)  # two percent


def test_what_is_given_stays(pair, measured):
    asked = sdvar.Speculative(acceptance=sdvar.Coupled(), redraft="target", verify_scales=3)
    chosen = tuning.choose(asked, pair, SAMPLING, 1).strategy
    assert (chosen.redraft, chosen.verify_scales) == ("target", 3)
    measured |= {"share": 1.0}
    assert tuning.choose(asked, pair, SAMPLING, 1).strategy == dataclasses.replace(asked, gamma=sdvar.Spans((1,)))
    for scales in (0, 1):
        short = dataclasses.replace(asked, verify_scales=scales)
        assert tuning.choose(short, pair, SAMPLING, 1).strategy.gamma == sdvar.Spans((1,))


def test_what_the_model_does_not_cover_is_timed_beside_the_best():
    def candidate(name, seconds):
        return Candidate(name, sdvar.Speculative(2), seconds)

    reuse, plain = candidate("a_reuse", None), candidate(BASELINE, 1.0)
    ones = [candidate("a", 0.7), candidate("b", 0.8), candidate("c", 0.9), candidate("d", 0.95), plain]
    assert [one.name for one in tuning.shortlist([*ones, reuse], 9)] == ["a", "a_reuse", "b", "c"]
    assert [one.name for one in tuning.shortlist([*ones, reuse], 2)] == ["a", "a_reuse"]
    assert [one.name for one in tuning.shortlist([*ones, reuse], 0)] == ["a"]
    close, far = candidate("e", 1.04), candidate("f", 1.06)
    assert [one.name for one in tuning.shortlist([plain, close, reuse], 9)] == ["a_reuse"]
    assert tuning.shortlist([plain, far, reuse], 9) == []


def test_lossy_choices_only_where_they_are_allowed(pair, measured):
    measured |= {"accepted": False, "draft": 0.3}
    assert sdvar.tune(pair, SAMPLING, 2) == PLAIN
    chosen = sdvar.tune(pair, SAMPLING, 2, lossless=False, max_disagreement=0.3)
    assert not chosen.lossless  # the draft alone, a tail or a hand-off: each differs in a fifth of the tokens
    assert sdvar.tune(pair, SAMPLING, 2, lossless=False, max_disagreement=0.1) == PLAIN


def test_another_rule_goes_by_its_own_acceptance(pair, measured):
    loose = sdvar.Match(0.01)  # nearly all is accepted, whatever the draft
    measured |= {"accepted": False}
    chosen = tuning.choose(sdvar.Speculative(acceptance=loose), pair, SAMPLING, 2).strategy
    assert chosen.acceptance == loose
    assert chosen.gamma != sdvar.Spans((1,))


def test_a_decode_chooses_once_per_sampling_and_batch_size(monkeypatch):
    pair, asked = close_pair(), []

    def choose(strategy, pair, sampling, batch, batches):
        assert batches == tuning.CALLS
        asked.append((sampling, batch))
        return tuning.Choice(sdvar.Speculative(sdvar.Spans((2, 1, 1))), "")

    monkeypatch.setattr(tuning, "choose", choose)
    labels, seeds = [1, 2, 3], [4, 5, 6]
    plain = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), SAMPLING)
    for _ in range(2):
        assert same_tokens(sdvar.decode(pair, labels, seeds, AUTO, SAMPLING), plain)
    sdvar.decode(pair, labels[:1], seeds[:1], AUTO, SAMPLING)
    sdvar.decode(pair, labels, seeds, AUTO)
    assert asked == [(SAMPLING, 3), (SAMPLING, 1), (sdvar.Sampling(), 3)]
    assert sdvar.ModelPair(pair.draft, pair.target, pair.tokenizer).tuned == {}


def test_a_real_pair_is_tuned_in_the_time_allowed():
    pair = close_pair()
    for batch in (1, 3):
        strategy = sdvar.tune(pair, SAMPLING, batch, seconds=1)
        assert isinstance(strategy, sdvar.Speculative)
        assert strategy.exact
        assert not strategy.auto
    chosen = sdvar.tune(pair, SAMPLING, 2, seconds=1, lossless=False, max_disagreement=1.0)
    assert isinstance(chosen, sdvar.Strategy)


def test_a_pair_of_one_scale_has_nothing_to_draft():
    assert sdvar.tune(random_pair((1,)), SAMPLING, 2) == PLAIN


@pytest.mark.parametrize("scales", [None, 2])
def test_drafting_nothing_does_what_plain_decoding_does(pair, monkeypatch, scales):
    """The same passes, picks and commits in the same order, and no draft model before a draft tail."""
    monkeypatch.setattr(DecodeState, "proposal", None)
    done = []
    for name in ("step_plain", "stepper", "pick"):
        real = getattr(DecodeState, name)

        def spy(state, *arguments, name=name, real=real):
            plain = [a for a in arguments if not isinstance(a, torch.Tensor | Logits)]
            done.append((name, *(list(a) if isinstance(a, range | list) else a for a in plain)))
            return real(state, *arguments)

        monkeypatch.setattr(DecodeState, name, spy)
    other = sdvar.Baseline() if scales is None else sdvar.Handoff(scales, first="target")
    expected = sdvar.decode(pair, [1, 2], [3, 4], other, SAMPLING)
    plainly, done[:] = list(done), []
    nothing = sdvar.Speculative(sdvar.Spans((1,)), verify_scales=scales)
    found = sdvar.decode(pair, [1, 2], [3, 4], nothing, SAMPLING)
    assert done == plainly
    assert same_tokens(found, expected)
    assert found.stats.draft_calls.tolist() == expected.stats.draft_calls.tolist()
    assert ("stepper", "draft") not in done[: 3 * (scales or 4)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected an int >= 1, got 0"),
        ({"seconds": 0}, "seconds: expected a number above 0, got 0"),
        ({"max_disagreement": 2}, "max_disagreement: expected a number from 0 to 1, got 2"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named(pair, arguments, message):
    with pytest.raises(ValueError) as raised:
        sdvar.tune(pair, **arguments)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": "atuo"}, "gamma: expected an int >= 1, a schedule or 'auto', got 'atuo'"),
        ({"max_disagreement": 1.5}, "max_disagreement: expected a number from 0 to 1, got 1.5"),
        ({"gamma": 2, "max_disagreement": 0.3}, "max_disagreement: expected 0 unless gamma is 'auto'"),
        ({"acceptance": sdvar.Rejection(), "max_disagreement": 0.3}, "max_disagreement: expected 0 unless"),
    ],
    ids=str,
)
def test_a_strategy_that_cannot_be_tuned_is_named(arguments, message):
    with pytest.raises(ValueError) as raised:
        sdvar.Speculative(**arguments)
    assert str(raised.value).startswith(message)


def test_what_auto_promises():
    assert AUTO.auto and AUTO.exact and AUTO.lossless
    assert repr(AUTO) == "Speculative(gamma='auto', acceptance=Coupled())"
    lossy = sdvar.Speculative(max_disagreement=0.3)
    assert not lossy.exact and not lossy.lossless
    assert not sdvar.Speculative(2).auto
    with pytest.raises(RuntimeError, match=r"sdvar\.tune chooses one"):
        _ = AUTO.schedule
