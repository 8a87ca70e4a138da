"""Speculative decoding: draft several scales, verify them in one target pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sdvar.decoding.acceptance import Acceptance, Coupled
from sdvar.decoding.rounds import Rounds
from sdvar.decoding.schedule import Fixed, Schedule
from sdvar.decoding.strategy import Strategy, check_choice, check_int

if TYPE_CHECKING:
    from sdvar.decoding.state import DecodeState


@dataclass(frozen=True)
class Speculative(Strategy):
    """Draft gamma scales with the small model, verify them and the scale after them in one pass of the large one.

    Speculative decoding (Leviathan et al. 2023, Chen et al. 2023) with a scale, a whole token map, in place of a token.

    Args:
        gamma: scales drafted a round: an int >= 1 or a schedule (Fixed, Adaptive, TokenBudget, Spans).
        acceptance: the rule that judges a drafted scale.
        redraft: "draft" drafts every round with the draft model; "target" takes what the target picked for the later
            scales in the round that ended, and the draft model only where no such picks are left. The latter is for
            rules that do not read the draft's distribution.
        verify_scales: leave the scales from this one on to the draft model alone, 0 .. K. Lossy.
    """

    gamma: int | Schedule = 2
    acceptance: Acceptance = field(default_factory=Coupled)
    redraft: str = "draft"
    verify_scales: int | None = None

    smooth_allowed = False

    def __repr__(self) -> str:
        """Without the last two arguments where they are the defaults: it stands in tables."""
        shown = [f"gamma={self.gamma!r}", f"acceptance={self.acceptance!r}"]
        for name in ("redraft", "verify_scales"):
            if getattr(self, name) != getattr(type(self), name):
                shown.append(f"{name}={getattr(self, name)!r}")
        return f"Speculative({', '.join(shown)})"

    def __post_init__(self) -> None:
        if not isinstance(self.gamma, Schedule):
            Fixed(self.gamma)
        if not isinstance(self.acceptance, Acceptance):
            raise TypeError(f"acceptance: expected a rule such as sdvar.Coupled(), got {self.acceptance!r}")
        check_choice("redraft", self.redraft, ("draft", "target"))
        if self.redraft == "target" and self.acceptance.needs_draft_distribution:
            raise ValueError(
                f"redraft: expected 'draft' with {type(self.acceptance).__name__}, which reads the draft's "
                "distribution; got 'target', whose drafts have none"
            )
        if self.verify_scales is not None:
            check_int("verify_scales", self.verify_scales, least=0)

    @property
    def schedule(self) -> Schedule:
        return self.gamma if isinstance(self.gamma, Schedule) else Fixed(self.gamma)

    @property
    def lossless(self) -> bool:
        return self.acceptance.lossless and self.verify_scales is None

    @property
    def exact(self) -> bool:
        return self.acceptance.exact and self.verify_scales is None

    def check(self, scales: int) -> None:
        self.schedule.check(scales)
        if self.verify_scales is not None and self.verify_scales > scales:
            raise ValueError(f"verify_scales: expected 0 to {scales}, or None for all, got {self.verify_scales}")

    def run(self, state: DecodeState) -> None:
        scales = len(state.pyramid)
        Rounds(self, state, scales if self.verify_scales is None else self.verify_scales).run()
        state.decode_plain("draft", scales)
