"""The report's plots: their texts say what they show, and many arms stay readable."""

import re

import pytest

from eval.report import scales, tradeoff
from eval.report.page import write_report
from eval.report.plots import MARKERS
from eval.report.run import ARM_COLOURS, Run
from eval.report.scales import SHOWN, calls_plots, rounds_plots, times_plots
from eval.report.words import DASH
from tests.eval.finished_run import PATCH_NUMS, arm_metrics, arms, write_run


def run_of(arms):
    metrics = {"arms": arms, "batch_size": 64, "patch_nums": PATCH_NUMS}
    return Run(None, metrics, "", dict.fromkeys(arms, "#2f7fd6"))


def plots_of(arms):
    return scales.section(run_of(arms))["groups"]


@pytest.fixture(scope="module")
def plots():
    return plots_of(arms())


def test_agreement_is_of_the_arms_that_draft(plots):
    plots = plots["agreement"]
    assert [[row[0] for row in plot["rows"]] for plot in plots] == [["speculative", "lossy"]] * 2
    assert plots[0]["rows"][0] == ["speculative", "97 %", "83 %", "72 %", "66 %", "61 %", DASH]
    assert "speculative: 1 × 1: 97 %, 2 × 2: 83 %" in plots[0]["alt"]  # noqa: RUF001


def test_heat_maps_say_how_many_were_verified_and_accepted(plots):
    first, second = plots["rounds"]
    assert first["title"].startswith("speculative") and second["title"].startswith("lossy")
    assert first["rows"][1] == ["round 2", "", "0 of 1", "2 of 18", "1 of 22", "", ""]
    assert "round 1: 1 × 1: 39 of 40, 2 × 2: 22 of 39; round 2: 2 × 2: 0 of 1" in first["alt"]  # noqa: RUF001
    texts = re.findall(r"<text [^>]*>([^<]+)</text>", first["svg"])
    assert {"98", "40", "56", "39", "11", "18", "5", "22", "0"} <= set(texts)


def test_an_almost_certain_scale_is_not_shown_as_certain():
    run = arms()
    run["lossy"] |= {"drafted_rounds": [[1000, 1000, 0, 0, 0, 0]], "accepted_rounds": [[999, 1, 0, 0, 0, 0]]}
    svg = rounds_plots(run_of(run))[1]["svg"]
    assert re.findall(r">(\d+)</text>", svg)[:1] != ["100"] and ">99</text>" in svg and ">100</text>" not in svg


def test_target_calls_and_times_have_the_baseline_beside(plots):
    (calls,) = plots["calls"]
    assert calls["head"] == ["Arm", *(f"{count} calls" for count in range(2, 7))]
    assert calls["rows"][0] == ["baseline", "", "", "", "", "40"]
    assert calls["rows"][2] == ["lossy", "26", "14", "", "", ""]
    assert "lossy: 2 calls: 26, 3 calls: 14" in calls["alt"]
    (times,) = plots["times"]
    assert ["speculative, target", "30", "40", "70", "140", "290", "430", "", "1,000"] in times["rows"]
    assert "baseline, draft" not in [row[0] for row in times["rows"]]
    assert times["title"].endswith("in ms") and "baseline, target: 1 × 1: 20, " in times["alt"]  # noqa: RUF001


def test_a_run_without_drafts_has_calls_and_times_alone():
    assert list(plots_of({"baseline": arms()["baseline"]})) == ["calls", "times"]


def test_distance_against_speed_names_points_and_frontier():
    context = tradeoff.section(run_of(arms()))
    assert "noise floor 0.104" in context["svg"] and "var(--ink)" in context["svg"]
    assert "lossy 1.31 times as fast, 0.261" in context["alt"] and "baseline_reseeded" not in context["alt"]
    assert context["best"] == ["baseline", "handoff", "lossy"] and context["plain"] == []
    assert [row["best"] for row in context["rows"]] == [True, False, True, True]
    alone = arms()["lossy"] | {
        "strategy": "Baseline(model='draft')",
        "kind": "draft",
        "speed_relative_to_baseline": 3.0,
    }
    assert tradeoff.section(run_of(arms() | {"small": alone}))["plain"] == ["small"]
    assert tradeoff.section(run_of({"baseline": arm_metrics()})) is None


def test_points_have_their_intervals():
    run = arms()
    bars = {"speed_relative_to_baseline_interval": [1.1, 1.9], "frechet_distance_to_baseline_interval": [-0.01, 0.4]}
    run["lossy"] |= bars
    found = tradeoff.points(run)
    assert tradeoff.intervals(run, found)["lossy"] == ([1.1, 1.9], [0.0, 0.4])
    assert tradeoff.intervals(run, found)["handoff"] == ([1.12, 1.12], [0.118, 0.118])
    section = tradeoff.section(run_of(run))
    assert "lossy 1.31 (1.10 … 1.90) times as fast, 0.261 (0.000 … 0.400)" in section["alt"]
    plain = tradeoff.section(run_of(arms()))["svg"]
    assert ">1.8<" in section["svg"] and ">1.8<" not in plain  # there is room for the bars


def test_no_label_is_struck_through_by_the_noise_floor():
    """An arm right on the noise floor has its name above or below the line."""
    run = arms()
    run["lossy"]["frechet_distance_to_baseline"] = 0.104
    svg = tradeoff.section(run_of(run))["svg"]
    heights = {name: float(re.search(rf'y="([\d.]+)"[^>]*>{name}<', svg)[1]) for name in ("lossy", "noise floor 0.104")}
    assert abs(heights["lossy"] - heights["noise floor 0.104"]) > 8 or heights["lossy"] < heights["noise floor 0.104"]


def test_thirty_arms_stay_readable(tmp_path):
    many = arms()
    for index in range(26):
        many[f"arm_{index}"] = arms()["lossy"] | {
            "speed_relative_to_baseline": 0.5 + index / 20, "frechet_distance_to_baseline": 0.1 + (index % 7) / 10,
        }  # fmt: skip
    many |= {name: arm | {"images": 12} for name, arm in many.items()}
    assert len(rounds_plots(run_of(many))) == SHOWN
    for plot in (*calls_plots(run_of(many)), *times_plots(run_of(many))):
        assert sum(f">{name}</text>" in plot["svg"] for name in many) == SHOWN
    context = tradeoff.section(run_of(many))
    numbers = set(re.findall(r">(\d+)</text>", context["svg"]))
    assert {str(row["number"]) for row in context["rows"]} <= numbers  # each has its number, and the table its name
    page = write_report(write_run(tmp_path, many, patch_nums=None)).read_text()
    assert len(page) < 1_000_000 and "Arms by their number in the plot" in page


def test_no_two_of_many_arms_look_alike():
    looks = {(ARM_COLOURS[index % len(ARM_COLOURS)], MARKERS[index % len(MARKERS)]) for index in range(56)}
    assert len(looks) == 56
