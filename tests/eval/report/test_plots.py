"""The report's plots: what they show stands in their texts, and many arms stay readable."""

import re

import pytest

from eval.report.page import write_report
from eval.report.plots import MARKERS, SHOWN
from eval.report.rounds import calls_plot, rounds_plots
from eval.report.run import ARM_COLOURS, Run
from eval.report.scales import scales_context
from eval.report.times import times_plots
from eval.report.tradeoff import tradeoff_context
from eval.report.words import DASH
from tests.eval.finished_run import PATCH_NUMS, arms, figures, write_run


def run_of(arms):
    metrics = {"arms": arms, "batch_size": 64, "patch_nums": PATCH_NUMS}
    return Run(None, metrics, "", dict.fromkeys(arms, "#2f7fd6"))


def plots_of(arms):
    return {group["title"]: group["plots"] for group in scales_context(run_of(arms))["groups"]}


@pytest.fixture(scope="module")
def plots():
    return plots_of(arms())


def test_agreement_is_of_the_arms_that_draft(plots):
    plots = plots["Agreement and acceptance"]
    assert [[row[0] for row in plot["table"]["rows"]] for plot in plots] == [["speculative", "lossy"]] * 2
    assert plots[0]["table"]["rows"][0] == ["speculative", "97 %", "83 %", "72 %", "66 %", "61 %", DASH]
    assert "speculative: 1: 97 %, 2: 83 %" in plots[0]["alt"]


def test_heat_maps_tell_how_many_were_judged_and_stood(plots):
    first, second = plots["Acceptance by round"]
    assert first["title"].startswith("speculative") and second["title"].startswith("lossy")
    assert first["table"]["rows"][1] == ["round 2", "", "0 of 1", "2 of 18", "1 of 22", "", ""]
    assert "round 1: 1: 39 of 40, 2: 22 of 39; round 2: 2: 0 of 1" in first["alt"]
    texts = re.findall(r"<text [^>]*>([^<]+)</text>", first["svg"])
    assert {"98", "40", "56", "39", "11", "18", "5", "22", "0"} <= set(texts)


def test_an_almost_certain_scale_is_not_shown_as_certain():
    run = arms()
    run["lossy"] |= {"drafted_rounds": [[1000, 1000, 0, 0, 0, 0]], "accepted_rounds": [[999, 1, 0, 0, 0, 0]]}
    svg = rounds_plots(run_of(run))[1]["svg"]
    assert re.findall(r">(\d+)</text>", svg)[:1] != ["100"] and ">99</text>" in svg and ">100</text>" not in svg


def test_target_calls_and_times_have_the_baseline_beside(plots):
    (calls,) = plots["Target calls an image"]
    assert calls["table"]["rows"][0] == ["baseline", *"000000", "40"]
    assert calls["table"]["rows"][2] == ["lossy", "0", "0", "26", "14", "", "", ""]
    assert "lossy: 26 of 2, 14 of 3" in calls["alt"]
    (times,) = plots["Time per scale"]
    assert ["speculative, target, verifying", "30", "40", "70", "140", "290", "430", "", "1,000"] in times["table"][
        "rows"
    ]
    assert "baseline, draft" not in [row[0] for row in times["table"]["rows"]]
    assert "baseline: target, verifying 760 ms, sampling 38 ms" in times["alt"]


def test_figures_that_an_earlier_version_did_not_record_are_left_out():
    new = ("drafted_rounds", "accepted_rounds", "target_calls_images", "seconds_per_scale", "seconds_of_no_scale")
    old = {name: {key: value for key, value in arm.items() if key not in new} for name, arm in arms().items()}
    assert list(plots_of(old)) == ["Agreement and acceptance"]
    assert scales_context(run_of({"baseline": old["baseline"]})) is None


def test_distance_against_speed_names_points_and_frontier():
    context = tradeoff_context(run_of(arms()))
    assert "noise floor 0.104" in context["svg"] and "var(--ink)" in context["svg"]
    assert "lossy 1.31 times as fast, 0.261" in context["alt"] and "baseline_reseeded" not in context["alt"]
    assert context["best"] == ["baseline", "handoff", "lossy"] and context["plain"] == []
    assert [row["best"] for row in context["rows"]] == [True, False, True, True]
    alone = arms()["lossy"] | {"strategy": "Baseline(model='draft')", "speed_relative_to_baseline": 3.0}
    assert tradeoff_context(run_of(arms() | {"small": alone}))["plain"] == ["small"]
    assert tradeoff_context(run_of({"baseline": figures()})) is None


def test_thirty_arms_stay_readable(tmp_path):
    many = arms()
    for index in range(26):
        many[f"arm_{index}"] = arms()["lossy"] | {
            "speed_relative_to_baseline": 0.5 + index / 20, "frechet_distance_to_baseline": 0.1 + (index % 7) / 10,
        }  # fmt: skip
    many |= {name: arm | {"images": 12} for name, arm in many.items()}
    assert len(rounds_plots(run_of(many))) == SHOWN
    for plot in (*calls_plot(run_of(many)), *times_plots(run_of(many))):
        assert sum(f">{name}</text>" in plot["svg"] for name in many) == SHOWN
    context = tradeoff_context(run_of(many))
    numbers = set(re.findall(r">(\d+)</text>", context["svg"]))
    assert {str(row["number"]) for row in context["rows"]} <= numbers  # each has its number, and the table its name
    page = write_report(write_run(tmp_path, many, patch_nums=None)).read_text()
    assert len(page) < 1_000_000 and "The numbers in the plot" in page


def test_no_two_of_many_arms_look_alike():
    looks = {(ARM_COLOURS[index % len(ARM_COLOURS)], MARKERS[index % len(MARKERS)]) for index in range(56)}
    assert len(looks) == 56
