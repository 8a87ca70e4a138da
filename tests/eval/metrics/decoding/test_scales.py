"""eval.metrics.decoding.scales: counts are summed, seconds averaged, and each part of the time has its place."""

import pytest

from eval.metrics.decoding import scales
from eval.metrics.metric import ArmTables


def compute(rows, batches):
    return scales.compute(ArmTables(None, rows, batches))[0]


def made_up(number, **columns):
    return {
        "batch": str(number), "seconds": "2.0", "drafted_rounds": "4 3 0;0 1 4", "accepted_rounds": "4 2 0",
        "draft_seconds": "0.1 0.2 0 0.05", "target_seconds": "0.2 0.2 0.2 0.05", "sampling_seconds": "0 0.1 0.1 0",
        "tokenizer_seconds": "0 0 0 0.5",
    } | columns  # fmt: skip


def test_values_are_sums_of_counts_and_means_of_seconds():
    rows = [{"target_calls": calls} for calls in ("2", "3", "3", "6")]
    values = compute(rows, [made_up(0), made_up(1, seconds="3.0", draft_seconds="0.3 0.2 0 0.05")])
    assert values["target_calls_images"] == [0, 0, 1, 2, 0, 0, 1]
    assert values["drafted_rounds"] == [[8, 6, 0], [0, 2, 8]]
    assert values["accepted_rounds"] == [[8, 4, 0], [0, 0, 0]]
    assert values["seconds_per_scale"]["draft"] == pytest.approx([0.2, 0.2, 0])
    assert set(values["seconds_per_scale"]) == {"draft", "target", "sampling"}
    of_none = values["seconds_of_no_scale"]
    assert of_none == {"conditioning": pytest.approx(0.1), "tokenizer": 0.5, "other": pytest.approx(2.5 - 1.8)}


def test_an_arm_that_drafts_nothing_has_no_rounds():
    values = compute([{"target_calls": "3"}], [made_up(0, drafted_rounds="0 0 0", accepted_rounds="0 0 0")])
    assert "drafted_rounds" not in values and "accepted_rounds" not in values
