"""eval.main_job.batch_one: where speculation drafts nothing, batch size 1 is measured, and the run keeps it."""

from types import SimpleNamespace

import pytest

import sdvar
from eval.main_job import batch_one
from lightning_modules.arms.arm import Arm
from sdvar.planning.tuning import NOTHING, Choice

PLAIN = sdvar.Speculative(NOTHING)


def asked(arms, batch_size=4):
    predictor = SimpleNamespace(arms=arms, pairs={None: "pair"}, sampling=sdvar.Sampling(), engine=sdvar.Engine())
    return batch_one.speculation_at_batch_one(predictor, SimpleNamespace(batch_size=batch_size, images=20))


def arm(name="speculative", resolved=PLAIN, **options):
    return Arm(name, sdvar.Speculative(**options), resolved=resolved)


@pytest.fixture
def choices(monkeypatch):
    """What is measured, and the arguments it is measured with."""
    given = SimpleNamespace(choice=Choice(sdvar.Speculative(2), "1.07", 1.07, 0.01), calls=[])
    monkeypatch.setattr(batch_one, "choose", lambda *arguments: given.calls.append(arguments) or given.choice)
    return given


def test_the_first_lossless_arm_is_measured_at_batch_size_1(choices, capsys):
    tail = arm("tail", sdvar.Speculative(NOTHING, verify_scales=2), verify_scales=2)
    record = asked([Arm("baseline", sdvar.Baseline()), tail, arm()])
    (strategy, pair, _, batch, seconds, batches), *more = choices.calls
    assert not more and (strategy, pair, batch, batches) == (sdvar.Speculative(), "pair", 1, 20)
    assert 0 < seconds <= 10
    assert record["pays"] and (record["speed"], record["speed_noise"]) == (1.07, 0.01)
    assert capsys.readouterr().out == "speculative at batch size 1: speculation pays: 1.07\n"


def test_what_does_not_pay_either_is_said(choices):
    choices.choice = Choice(PLAIN, "the best schedule took 1.1", 1.1, 0.02)
    record = asked([arm()])
    assert not record["pays"] and record["reason"] == "the best schedule took 1.1"


@pytest.mark.parametrize(("arms", "batch_size"), [
    ([arm()], 1), ([arm(resolved=sdvar.Speculative(1))], 4), ([Arm("fixed", sdvar.Speculative(2))], 4),
    ([arm("tail", sdvar.Speculative(NOTHING, verify_scales=2), verify_scales=2)], 4),
], ids=["batch size 1", "an arm that drafts", "a fixed gamma", "lossy"])  # fmt: skip
def test_nothing_is_measured_where_there_is_no_question(arms, batch_size, choices):
    assert asked(arms, batch_size) is None and not choices.calls


def test_what_there_was_no_time_to_measure_is_no_record(choices):
    choices.choice = Choice(PLAIN, "measuring would take 14 s", measured=False)
    assert asked([arm()]) is None
