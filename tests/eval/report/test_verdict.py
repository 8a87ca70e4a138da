"""eval.report.verdict: one true sentence on what was compared, and on what came out, whatever the run holds."""

import re

import pytest

from eval.report.frontier import frontier, points
from eval.report.run import Run
from eval.report.verdict import verdict_context
from tests.eval.finished_run import arms, figures

FAR = "a Fréchet distance (fashion-mnist-128) of"


def run_of(arms):
    return Run(None, {"arms": arms, "batch_size": 64}, "", {})


def said(words):
    return re.sub(r"\s+", " ", f"{words['before']}{words['arm']}{words['after']}")


def some(*names, **more):
    return {name: arms()[name] for name in ("baseline", *names)} | more


def lossy(**changes):
    return arms()["lossy"] | changes


EXACT = arms()["speculative"]
REJECTION = EXACT | {"exact": False, "token_agreement_with_baseline": 0.4, "images_differing_from_baseline": 40}
SIMULATED = {"strategy": "Speculative(gamma=2, acceptance=Simulated(rates=(0.9,)))"}


@pytest.mark.parametrize(("run", "compared", "verdict"), [
    (
        some("speculative", "baseline_reseeded"),
        "speculative was compared with the baseline, the target model alone, on 40 images of the same classes and "
        "seeds.",
        ["Lossless: speculative keeps the baseline's tokens in all 40 images and is slower than the baseline (0.87 "
         "times its speed)."],
    ),
    (
        some("lossy", "baseline_reseeded"),
        "lossy was compared",
        [f"Lossy: lossy has {FAR} 0.261 to the baseline, above the noise floor of 0.104, and is faster than the "
         "baseline (1.31 times its speed)."],
    ),
    (
        some("baseline_reseeded", a=lossy(frechet_distance_to_baseline=0.05), b=lossy(frechet_distance_to_baseline=0.09,
             speed_relative_to_baseline=1.5), c=lossy(speed_relative_to_baseline=9.0)),
        "3 ways of decoding were compared",
        [f"Lossy: 2 of 3 such arms lie within the noise floor; the fastest there, b, is faster than the baseline (1.50 "
         f"times its speed), at {FAR} 0.090 to the baseline (noise floor 0.104)."],
    ),
    (
        some("lossy"),
        "lossy was compared",
        [f"Lossy: lossy is faster than the baseline (1.31 times its speed), at {FAR} 0.261 to the baseline; this run "
         "measured no noise floor to hold that against."],
    ),
    (
        some("speculative", "baseline_reseeded", quick=EXACT | {"speed_relative_to_baseline": 1.4}, other=REJECTION),
        "3 ways of decoding were compared",
        ["Lossless: the fastest of 3 such arms, quick, keeps the baseline's tokens in all 40 images and is faster than "
         "the baseline (1.40 times its speed)."],
    ),
    (
        some(other=REJECTION | {"speed_relative_to_baseline": 1.004}),
        "other was compared",
        ["Lossless: other keeps the baseline's distribution, with draws of its own, and is as fast as the baseline "
         "(1.00 times its speed)."],
    ),
    (
        some("baseline_reseeded", sim=lossy(**SIMULATED)),
        "sim was compared",
        ["Simulated: sim is faster than the baseline (1.31 times its speed), if a draft were accepted at the rates "
         "given; its images mean nothing."],
    ),
    (
        some("baseline_reseeded"),
        "This run holds 40 images of the baseline alone, the target model decoding by itself, and nothing to compare "
        "them with.",
        [],
    ),
    (
        {"speculative": {key: value for key, value in EXACT.items() if "baseline" not in key}},
        "This run holds 40 images an arm and nothing to compare them with.",
        [],
    ),
], ids=["lossless", "lossy", "within", "no floor", "all lossless", "distribution", "simulated", "alone",
        "no baseline"])  # fmt: skip
def test_the_verdict_says_what_the_figures_say(run, compared, verdict):
    context = verdict_context(run_of(run))
    assert said(context["compared"]).startswith(compared)
    assert [f"{sentence['title']}: {said(sentence)}" for sentence in context["verdict"]] == verdict


def test_speeds_from_few_batches_are_not_quoted_without_a_word():
    run = some("speculative")
    run["speculative"] = EXACT | {"warnings": ["speed: too few batches to quote it (1)"]}
    assert verdict_context(run_of(run))["verdict"][-1]["before"] == "the speeds come from too few batches to be quoted."


def test_key_figures_are_those_of_the_arm_that_the_verdict_names_first():
    context = verdict_context(run_of(some("lossy", "speculative", "baseline_reseeded")))
    values = {tile["title"]: (tile["value"], tile["note"]) for tile in context["tiles"]}
    assert context["first"] == "speculative" and values["Speed"][0] == "0.87 ×"  # noqa: RUF001
    assert values["Fréchet distance (fashion-mnist-128) to the baseline"] == ("0.000", "noise floor 0.104")
    assert values["Tokens as the baseline"] == ("100 %", "promised and kept: lossless")
    alone = verdict_context(run_of(some()))["tiles"]
    assert [tile["value"] for tile in alone] == ["71.3", "2.27", "8.41"]
    simulated = verdict_context(run_of(some(sim=lossy(**SIMULATED))))["tiles"]
    assert [tile["title"] for tile in simulated] == ["Speed", "Target calls an image"]


def test_of_many_arms_the_frontiers_have_sentences():
    many = {f"arm_{index}": lossy(speed_relative_to_baseline=0.5) for index in range(20)}
    many["best"] = lossy(speed_relative_to_baseline=2.0)
    context = verdict_context(run_of(some("speculative", "baseline_reseeded", **many)))
    assert [line["arm"] for line in context["lines"]] == ["speculative", "best", "arm_0", "arm_1", "arm_2"]
    assert context["more"] == 17


def test_runs_of_earlier_versions_count_images_instead_of_tokens():
    run = some(old=lossy(token_agreement_with_baseline=None))
    (line,) = verdict_context(run_of(run))["lines"]
    assert line["words"] == "is lossy: it kept all of the baseline's tokens in 1 of 40 images"


def test_the_frontier_holds_what_no_other_beats():
    of = {"base": (1, 0), "slow": (0.5, 0), "fast": (2, 1), "beaten": (1.9, 1), "near": (1.5, 0.5), "far": (2, 3)}
    assert frontier(of) == ["base", "near", "fast"]
    assert frontier({"one": (1, 1)}) == ["one"] and frontier({}) == []


def test_points_are_of_arms_whose_images_mean_something():
    run = arms() | {"sim": lossy(**SIMULATED), "untimed": lossy(speed_relative_to_baseline=None)}
    run["broken"] = EXACT | {"images_differing_from_baseline": 3}
    assert points(run) == {
        "baseline": (1.0, 0.0), "speculative": (0.874, 0.0), "lossy": (1.31, 0.261), "handoff": (1.12, 0.118),
    }  # fmt: skip
    assert points({"alone": figures()}) == {}
