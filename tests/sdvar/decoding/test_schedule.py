"""How many scales each schedule drafts, written out by hand."""

import pytest

import sdvar

TEN = sdvar.ScalePyramid((1, 2, 3, 4, 5, 6, 8, 10, 13, 16))  # 1, 4, 9, 16, 25, 36, 64, 100, 169, 256 tokens


def test_fixed():
    assert [sdvar.Fixed(3).draft_length(TEN, scale, scale, 3) for scale in range(3)] == [3, 3, 3]


@pytest.mark.parametrize("budget, lengths", [
    (4, [0] * 10),  # scales 0 and 1 hold 5 tokens
    (5, [1] + [0] * 9),
    (14, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
    (100, [5, 4, 3, 2, 1, 1, 0, 0, 0, 0]),
    (680, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
])  # fmt: skip
def test_token_budget(budget, lengths):
    assert [sdvar.TokenBudget(budget).draft_length(TEN, scale, scale, 0) for scale in range(10)] == lengths


def test_token_budget_counts_what_the_cache_lacks():
    assert sdvar.TokenBudget(29).draft_length(TEN, 1, 1, 0) == 2  # 4 + 9 + 16
    assert sdvar.TokenBudget(29).draft_length(TEN, 1, 0, 0) == 1  # 1 + 4 + 9, and 16 more do not fit


def test_adaptive():
    schedule = sdvar.Adaptive(start=2, min=1, max=3)
    assert schedule.start == 2
    assert schedule.after(2, drafted=2, accepted=2) == 3
    assert schedule.after(3, drafted=3, accepted=3) == 3
    assert schedule.after(2, drafted=2, accepted=1) == 2
    assert schedule.after(2, drafted=2, accepted=0) == 1
    assert schedule.after(1, drafted=1, accepted=0) == 1
    assert schedule.draft_length(TEN, 0, 0, 3) == 3


def test_spans():
    spans = sdvar.Spans((8, 1, 1))
    assert [spans.draft_length(TEN, scale, scale, 0) for scale in range(10)] == [7, 6, 5, 4, 3, 2, 1, 0, 0, 0]
    repeated = sdvar.Spans([1, 3])  # 1, 3, 3, 3
    assert [repeated.draft_length(TEN, scale, scale, 0) for scale in range(10)] == [0, 2, 1, 0, 2, 1, 0, 2, 1, 0]


@pytest.mark.parametrize("make, error, words", [
    (lambda: sdvar.Adaptive(2, 3, 4), ValueError, "start: expected min <= start <= max"),
    (lambda: sdvar.Adaptive(0, 0, 4), ValueError, "min"), (lambda: sdvar.Adaptive(1, 1, 0), ValueError, "max"),
    (lambda: sdvar.TokenBudget(0), ValueError, "n: expected"), (lambda: sdvar.TokenBudget(2.0), TypeError, "n"),
    (lambda: sdvar.Spans(()), ValueError, "scales"), (lambda: sdvar.Spans((2, 0)), ValueError, "scales"),
    (lambda: sdvar.Spans(3), TypeError, "scales"), (lambda: sdvar.Spans("811"), TypeError, "scales"),
    (lambda: sdvar.Fixed(0), ValueError, "gamma"),
])  # fmt: skip
def test_bad_arguments(make, error, words):
    with pytest.raises(error, match=words):
        make()
