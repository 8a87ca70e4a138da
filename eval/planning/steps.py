"""What a decode consists of, as far as its time depends on it."""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """A piece of work on the scales first <= k < last of a group of images.

    Attributes:
        op: "draft" or "target", a pass of that model; "begin_draft" or "begin_target", its conditioning; "noise", the
            random numbers of all scales; "propose", the draft's pick and the input that follows from it; "settle", the
            target's pick, the rule and the commit of a drafted scale; "commit", a pick and the commit of a scale that
            nobody judges.
        first, last: the scales; what is made once a decode has none.
        wanted: of a pass, the first scale whose logits are made.
    """

    op: str
    first: int = 0
    last: int = 0
    wanted: int = 0


BEGIN_DRAFT, BEGIN_TARGET, NOISE = Step("begin_draft"), Step("begin_target"), Step("noise")
ONCE = (BEGIN_DRAFT, BEGIN_TARGET, NOISE)  # a decode, for the whole batch


def draft_pass(cached: int, scale: int) -> Step:
    """The draft's logits of one scale, all that its cache lacks read in the same pass."""
    return Step("draft", cached, scale + 1, scale)


def target_pass(first: int, last: int, wanted: int | None = None) -> Step:
    """The target's logits of the scales from ``wanted`` on, by default of all that it reads."""
    return Step("target", first, last, first if wanted is None else wanted)


def at(op: str, scale: int) -> Step:
    """Work on one scale that is no pass."""
    return Step(op, scale, scale + 1, scale)


def every_step(scales: int, handoffs: bool) -> list[Step]:
    """All steps that rounds and draft tails over ``scales`` scales can consist of, and a hand-off to the target."""
    cuts = [(first, last) for first in range(scales) for last in range(first + 1, scales + 1)]
    drafted = range(scales - 1)
    return [
        *ONCE,
        *(draft_pass(first, last - 1) for first, last in cuts),
        *(target_pass(first, last) for first, last in cuts),
        *(target_pass(0, entry + 1, entry) for entry in range(1, scales) if handoffs),
        *(at("commit", scale) for scale in range(scales)),
        *(at(op, scale) for op in ("propose", "settle") for scale in drafted),
    ]
