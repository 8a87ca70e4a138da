"""eval.metrics.decoding.work and speed: means, shares and medians of an arm's tables, and their warnings."""

from types import SimpleNamespace

import pytest

from eval.metrics.decoding import speed, work
from eval.metrics.metric import ArmTables


def rows(*gaps):
    """Rows of a manifest; an image with a gap differs from the baseline's."""
    return [
        {"target_calls": "2", "draft_calls": str(index), "target_tokens": "30", "draft_tokens": "14"}
        | {"tokens_equal_baseline": str(int(gap == "")), "agreeing_tokens": "15", "score_gap": gap}
        for index, gap in enumerate(gaps)
    ]


def tables(gaps=("", "1e-6"), *, exact=True, precision="32-true", batches=()):
    arm = SimpleNamespace(name="speculative", exact=exact)
    return ArmTables(arm, rows(*gaps), batches, length=30, batch_size=10, precision=precision)


def test_work_is_the_mean_over_images_and_the_share_by_scale():
    batches = [
        {"drafted_tokens": "4 8 0", "agreed_tokens": "4 2 0", "drafted_scales": "4 2 0", "accepted_scales": "4 1 0"},
        {"drafted_tokens": "4 0 0", "agreed_tokens": "2 0 0", "drafted_scales": "4 0 0", "accepted_scales": "2 0 0"},
    ]
    values, warnings = work.work(tables(batches=batches))
    assert warnings == [] and values["target_calls_mean"] == 2 and values["draft_calls_mean"] == 0.5
    assert values["agreement_per_scale"] == [0.75, 0.25, None]
    assert values["accepted_scales_per_scale"] == [0.75, 0.5, None]


def test_a_near_tie_is_no_fault_and_a_larger_gap_is():
    values, warnings = work.agreement(tables(("", "1e-6")))
    assert warnings == [] and values["token_agreement_with_baseline"] == 0.5
    assert (values["images_differing_from_baseline"], values["near_tie_images"]) == (1, 1)
    values, warnings = work.agreement(tables(("1e-6", "0.5")))
    assert values["largest_first_difference_gap"] == 0.5
    assert len(warnings) == 1 and "1 images differ from the baseline by more than a near-tie" in warnings[0]


def test_near_ties_are_judged_for_exact_arms_alone_in_every_precision():
    values, warnings = work.agreement(tables(("0.5",), precision="bf16-true"))
    assert values["near_tie_images"] == 0 and "more than a near-tie" in warnings[0]
    values, warnings = work.agreement(tables(("0.5",), exact=False))
    assert "near_tie_images" not in values and warnings == []


def test_an_arm_with_other_seeds_is_not_compared():
    other = tables()
    for row in other.rows:
        row["tokens_equal_baseline"] = ""
    assert work.agreement(other) == ({}, [])


@pytest.mark.parametrize(("count", "warned"), [(4, True), (5, False)])
def test_speed_is_the_median_over_batches(count, warned):
    batches = [{"seconds": str(1 + index), "baseline_seconds": str(2 * (1 + index))} for index in range(count)]
    values, warnings = speed.compute(tables(batches=batches))
    middle = (count + 1) / 2
    assert values["seconds_per_batch_median"] == middle and values["images_per_second"] == 10 / middle
    assert values["speed_relative_to_baseline"] == 2
    assert warnings == ([f"speed: too few batches to quote it ({count})"] if warned else [])


def test_one_batch_has_no_interval():
    one = [{"seconds": "2", "baseline_seconds": "3"}]
    assert not [key for key in speed.compute(tables(batches=one))[0] if key.endswith("_interval")]
    assert len([key for key in speed.compute(tables(batches=one * 2))[0] if key.endswith("_interval")]) == 3


def test_without_a_baseline_there_is_no_relative_speed():
    values, _ = speed.compute(tables(batches=[{"seconds": "1", "baseline_seconds": ""}]))
    assert "speed_relative_to_baseline" not in values
