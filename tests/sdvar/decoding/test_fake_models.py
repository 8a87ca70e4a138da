"""Rounds of models that leave nothing to chance, with every call and count written out by hand."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

import sdvar
from tests.fake_models import WRONG, fake_pair, right_token

FIVE = (1, 2, 2, 3, 3)  # 1, 4, 4, 9, 9 tokens
TEN = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)  # 1, 4, 9, 16, 25, 36, 64, 100, 169, 256 tokens
UNGUIDED = sdvar.Sampling(cfg=0.0)


class Case(NamedTuple):
    """What one image costs.

    Attributes:
        plan: of the draft, a character per scale: "." right, "x" wrong.
        strategy: what decodes.
        target, draft: the passes of each model, each as its scales: "012 34" are two.
        target_tokens, draft_tokens: positions in them.
        drafted, accepted: a digit per scale: how often it was judged, how often it was accepted.
        wrong: scales that end up with wrong tokens.
    """

    plan: str
    strategy: sdvar.Strategy
    target: str
    target_tokens: int
    draft: str
    draft_tokens: int
    drafted: str
    accepted: str
    wrong: str = ""


def reuse(gamma, **options):
    return sdvar.Speculative(gamma, redraft="target", **options)


def tail(gamma, scales):
    return sdvar.Speculative(gamma, verify_scales=scales)


Spec, Adaptive, Budget, Spans = sdvar.Speculative, sdvar.Adaptive, sdvar.TokenBudget, sdvar.Spans

FIVE_SCALES = [
    # one model alone, and one after the other
    Case(".....", sdvar.Baseline(), "1 2 3 4", 26, "", 0, "00000", "00000"),
    Case("x.x..", sdvar.Baseline("draft"), "", 0, "1 2 3 4", 26, "00000", "00000", wrong="02"),
    Case("xx.xx", sdvar.Handoff(2), "12 3 4", 26, "1", 4, "00000", "00000", wrong="01"),
    Case("xx.xx", sdvar.Handoff(2, prefix="none"), "2 3 4", 22, "1", 4, "00000", "00000", wrong="01"),
    Case("xx.xx", sdvar.Handoff(3, "target"), "1 2", 8, "123 4", 26, "00000", "00000", wrong="34"),
    # the draft always agrees
    Case(".....", Spec(1), "12 34", 26, "1 23", 17, "01010", "01010"),
    Case(".....", Spec(2), "123 4", 26, "1 2", 8, "01100", "01100"),
    Case(".....", Spec(3), "1234", 26, "1 2 3", 17, "01110", "01110"),
    Case(".....", Spec(4), "1234", 26, "1 2 3", 17, "01110", "01110"),
    Case(".....", Spec(9), "1234", 26, "1 2 3", 17, "01110", "01110"),
    # never
    Case("xxxxx", Spec(1), "12 23 34 4", 48, "1 2 3", 17, "01110", "00000"),
    Case("xxxxx", Spec(2), "123 234 34 4", 66, "1 2 2 3 3", 30, "01110", "00000"),
    Case("xxxxx", Spec(3), "1234 234 34 4", 75, "1 2 3 2 3 3", 39, "01110", "00000"),
    # not at one scale; where that is the bonus scale, it is not even drafted
    Case("...x.", Spec(2), "123 4", 26, "1 2", 8, "01100", "01100"),
    Case(".x...", Spec(2), "123 234", 39, "1 2 2 3", 21, "01110", "00110"),
    Case("..x..", Spec(2), "123 34", 35, "1 2 3", 17, "01110", "01010"),
    Case("..x..", Spec(3), "1234 34", 44, "1 2 3 3", 26, "01110", "01010"),
    Case("....x", Spec(4), "1234", 26, "1 2 3", 17, "01110", "01110"),
    # the target's picks as the next draft: right although what came before them was not
    Case("xxxxx", reuse(1), "12 23 4", 30, "1", 4, "01100", "00100"),
    Case("xxxxx", reuse(2), "123 234", 39, "1 2", 8, "01110", "00110"),
    Case("xxxxx", reuse(3), "1234 234", 48, "1 2 3", 17, "01110", "00110"),
    Case(".....", reuse(2), "123 4", 26, "1 2", 8, "01100", "01100"),
    Case(".x...", reuse(3), "1234 234", 48, "1 2 3", 17, "01110", "00110"),
    Case("...x.", reuse(2), "123 4", 26, "1 2", 8, "01100", "01100"),
    # the draft finishes what is not verified
    Case(".....", tail(2, 3), "12", 8, "1 23 4", 26, "01000", "01000"),
    Case("...x.", tail(2, 3), "12", 8, "1 23 4", 26, "01000", "01000", wrong="3"),
    Case("xxxxx", tail(2, 3), "12 2", 12, "1 23 4", 26, "01000", "00000", wrong="34"),
    Case(".....", tail(2, 4), "123", 17, "1 2 34", 26, "01100", "01100"),
    Case(".x...", tail(2, 0), "", 0, "1 2 3 4", 26, "00000", "00000", wrong="1"),
    Case("xxxxx", tail(2, 5), "123 234 34 4", 66, "1 2 2 3 3", 30, "01110", "00000"),
    Case("xxxxx", reuse(2, verify_scales=3), "12 2", 12, "1 23 4", 26, "01000", "00000", wrong="34"),
    # schedules
    Case(".....", Spec(Budget(10)), "12 3 4", 26, "1", 4, "01000", "01000"),
    Case("xxxxx", Spec(Budget(10)), "12 2 3 4", 30, "1", 4, "01000", "00000"),
    Case(".....", Spec(Budget(13)), "12 3 4", 26, "1", 4, "01000", "01000"),
    Case("xxxxx", Spec(Budget(13)), "12 23 3 4", 39, "1 2", 8, "01100", "00000"),
    Case(".....", Spec(Spans((3, 2))), "12 34", 26, "1 23", 17, "01010", "01010"),
    Case(".x...", Spec(Spans((3, 2))), "12 2 34", 30, "1 23", 17, "01010", "00010"),
    Case("xxxxx", Spec(Spans((3, 2))), "12 2 34 4", 39, "1 23", 17, "01010", "00000"),
    Case(".....", Spec(Spans((2,))), "1 23 4", 26, "12", 8, "00100", "00100"),
    Case(".....", Spec(Spans((1,))), "1 2 3 4", 26, "", 0, "00000", "00000"),
]  # fmt: skip

TEN_SCALES = [
    Case("." * 10, Spec(2), "123 456 789", 679, "1 2 34 5 67 8", 423, "0110110110", "0110110110"),
    Case("." * 10, Spec(4), "12345 6789", 679, "1 2 3 4 56 7 8", 423, "0111101110", "0111101110"),
    # one scale more after each full round, at most 3; one less if the first was rejected; else unchanged
    Case("." * 10, Spec(Adaptive(1, 1, 3)), "12 345 6789", 679, "1 23 4 56 7 8", 423, "0101101110", "0101101110"),
    Case("x" * 10, Spec(Adaptive(3, 1, 3)), "1234 234 34 45 56 67 78 89 9", 1420,
         "1 2 3 2 3 3 4 5 6 7 8", 464, "0111111110", "0000000000"),
    Case(".x" + "." * 8, Spec(Adaptive(2, 1, 3)), "123 23 456 789", 704, "1 2 2 34 5 67 8", 432, "0110110110",
         "0010110110"),
    Case("..x......." , Spec(Adaptive(3, 2, 3)), "1234 3456 789", 720, "1 2 3 3 4 5 67 8", 439, "0111110110",
         "0101110110"),
    # the largest query that fits, else a plain step
    Case("." * 10, Spec(Budget(1)), "1 2 3 4 5 6 7 8 9", 679, "", 0, "0" * 10, "0" * 10),
    Case("." * 10, Spec(Budget(60)), "1234 5 6 7 8 9", 679, "1 2 3", 29, "0111000000", "0111000000"),
    Case("." * 10, Spec(Budget(100)), "12345 6 7 8 9", 679, "1 2 3 4", 54, "0111100000", "0111100000"),
    Case("." * 10, Spec(Budget(680)), "123456789", 679, "1 2 3 4 5 6 7 8", 423, "0111111110", "0111111110"),
    Case("." * 10, Spec(Spans((8, 1, 1))), "1234567 8 9", 679, "1 2 3 4 5 6", 154, "0111111000", "0111111000"),
    Case("...x......", Spec(Spans((8, 1, 1))), "1234567 4567 8 9", 904, "1 2 3 4 5 6 4 5 6", 279, "0111111000",
         "0110111000"),
]  # fmt: skip


def decode(sides, plans, strategy, easily_misled=False):
    """One image a plan: the result, and the passes of the target and of the draft by image."""
    pair = fake_pair(sides, plans, easily_misled)
    labels = range(len(plans))
    result = sdvar.decode(pair, labels, labels, strategy, UNGUIDED, images=False)
    return result, *([" ".join(model.passes[i]) for i in labels] for model in (pair.target, pair.draft))


def check_tokens(result, image, wrong):
    for k, tokens in enumerate(result.tokens):
        expected = WRONG if str(k) in wrong else right_token(image, k)
        assert (tokens[image] == expected).all(), f"scale {k}"


def digits(text):
    return [int(digit) for digit in text]


@pytest.mark.parametrize("sides, case", [
    *[pytest.param(FIVE, case, id=f"{case.plan} {case.strategy}") for case in FIVE_SCALES],
    *[pytest.param(TEN, case, id=f"{case.plan} {case.strategy}") for case in TEN_SCALES],
])  # fmt: skip
def test_one_image(sides, case):
    result, target, draft = decode(sides, [case.plan], case.strategy)
    assert target == [case.target]
    assert draft == [case.draft]
    stats, counts = result.stats, torch.tensor(sdvar.ScalePyramid(sides).tokens)
    assert stats.target_calls.tolist() == [len(case.target.split())]
    assert stats.draft_calls.tolist() == [len(case.draft.split())]
    assert stats.target_tokens.tolist() == [case.target_tokens]
    assert stats.draft_tokens.tolist() == [case.draft_tokens]
    assert stats.drafted_scales.tolist() == digits(case.drafted)
    assert stats.accepted_scales.tolist() == digits(case.accepted)
    assert torch.equal(stats.drafted_tokens, stats.drafted_scales * counts)
    assert torch.equal(stats.agreed_tokens, stats.accepted_scales * counts)
    assert torch.equal(stats.drafted_rounds.sum(0), stats.drafted_scales)
    assert torch.equal(stats.accepted_rounds.sum(0), stats.accepted_scales)
    check_tokens(result, 0, case.wrong)


@pytest.mark.parametrize("rule", [
    sdvar.Coupled(), sdvar.Rejection(), sdvar.Match(1.0), sdvar.Top1(1.0), sdvar.TopK(1, 1.0), sdvar.KL(1.0),
    sdvar.Neighbour(1, 0.0),
], ids=repr)  # fmt: skip
def test_images_of_one_batch_go_their_own_ways(rule):
    """Where a scale is all right or all wrong, the rules are of one mind."""
    plans = [".....", "xxxxx", ".x...", "...x.", "..x.."]
    result, target, draft = decode(FIVE, plans, Spec(2, rule))
    assert target == ["123 4", "123 234 34 4", "123 234", "123 4", "123 34"]
    assert draft == ["1 2", "1 2 2 3 3", "1 2 2 3", "1 2", "1 2 3"]
    stats = result.stats
    assert stats.target_calls.tolist() == [2, 4, 2, 2, 2]
    assert stats.draft_calls.tolist() == [2, 5, 4, 2, 3]
    assert stats.target_tokens.tolist() == [26, 66, 39, 26, 35]
    assert stats.draft_tokens.tolist() == [8, 30, 21, 8, 17]
    assert stats.drafted_scales.tolist() == [0, 5, 5, 3, 0]
    assert stats.accepted_scales.tolist() == [0, 3, 3, 2, 0]
    assert stats.drafted_tokens.tolist() == [0, 20, 20, 27, 0]
    assert stats.agreed_tokens.tolist() == [0, 12, 12, 18, 0]
    # rounds are the image's own: in the second, images judge scale 2 or 3
    assert stats.drafted_rounds.tolist() == [[0, 5, 3, 0, 0], [0, 0, 2, 2, 0], [0, 0, 0, 1, 0], [0] * 5, [0] * 5]
    assert stats.accepted_rounds.tolist() == [[0, 3, 2, 0, 0], [0, 0, 1, 2, 0], [0] * 5, [0] * 5, [0] * 5]
    for image in range(5):
        check_tokens(result, image, wrong="")


@pytest.mark.parametrize("sides, cases", [(FIVE, FIVE_SCALES), (TEN, TEN_SCALES)], ids=["five", "ten"])
def test_every_image_costs_in_a_batch_what_it_costs_alone(sides, cases):
    """All plans of the tables above in one batch, under each of their strategies."""
    for strategy in dict.fromkeys(case.strategy for case in cases):
        result, target, draft = decode(sides, [case.plan for case in cases], strategy)
        for i, case in enumerate(cases):
            if case.strategy == strategy:
                assert (target[i], draft[i]) == (case.target, case.draft)
                assert result.stats.target_tokens[i] == case.target_tokens
                assert result.stats.draft_tokens[i] == case.draft_tokens
                check_tokens(result, i, case.wrong)


def test_picks_of_a_misled_target_are_no_better_than_the_draft():
    """A target that follows a wrong draft: later scales are rejected again, one scale per round is settled."""
    result, target, draft = decode(FIVE, ["xxxxx"], reuse(2), easily_misled=True)
    assert target == ["123 234 34 4"]
    assert draft == ["1 2"]
    assert result.stats.drafted_scales.tolist() == [0, 1, 1, 1, 0]
    assert result.stats.accepted_scales.tolist() == [0, 0, 0, 0, 0]
    check_tokens(result, 0, wrong="")


# scale 1 is drafted with one wrong token of four; whether it is accepted decides the rest
ACCEPTED, REJECTED = ("123 4", "1 2", [0, 4, 4, 0, 0]), ("123 234", "1 2 2 3", [0, 4, 4, 9, 0])


@pytest.mark.parametrize("rule, passes, first_token, agreed", [
    (sdvar.Coupled(), REJECTED, 1, 3), (sdvar.Rejection(), REJECTED, 1, 3), (sdvar.Neighbour(3, 0.0), REJECTED, 1, 3),
    (sdvar.Neighbour(3, 1.0), ACCEPTED, WRONG, 4),  # the right token is among the neighbours, for which d answers
    (sdvar.Match(0.76), REJECTED, 1, 3), (sdvar.Match(0.75), ACCEPTED, WRONG, 3),
    (sdvar.Top1(0.76), REJECTED, 1, 3), (sdvar.Top1(0.75), ACCEPTED, WRONG, 3),
    (sdvar.TopK(1, 0.76), REJECTED, 1, 3), (sdvar.TopK(1, 0.75), ACCEPTED, WRONG, 3),
    (sdvar.TopK(4, 1.0), ACCEPTED, WRONG, 4),
    (sdvar.KL(24.0), REJECTED, 1, 3), (sdvar.KL(26.0), ACCEPTED, WRONG, 3),  # a quarter of 100 nats
], ids=repr)  # fmt: skip
def test_rules_on_a_scale_with_one_wrong_token(rule, passes, first_token, agreed):
    result, target, draft = decode(FIVE, [".1..."], Spec(2, rule))
    assert (target, draft, result.stats.drafted_tokens.tolist()) == ([passes[0]], [passes[1]], passes[2])
    assert result.stats.agreed_tokens[1] == agreed
    assert result.tokens[1].tolist() == [[first_token, 1, 1, 1]]


def test_match_that_keeps_the_targets_picks():
    """Scale 1 is replaced but accepted: both caches are cut after it, scale 2 is read again, and was picked misled."""
    result, target, draft = decode(FIVE, [".1..."], Spec(2, sdvar.Match(0.75, "target")))
    assert (target, draft) == (["123 234"], ["1 2"])
    assert result.stats.target_tokens.tolist() == [17 + 22]
    assert result.stats.accepted_scales.tolist() == [0, 1, 1, 0, 0]
    check_tokens(result, 0, wrong="")
    misled, *_ = decode(FIVE, [".1..."], Spec(2, sdvar.Match(0.75, "target")), easily_misled=True)
    check_tokens(misled, 0, wrong="234")  # nothing after a wrong token is right any more
