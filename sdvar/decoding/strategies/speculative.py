"""Speculative decoding as a strategy: which scales are drafted, by what, and which rule judges them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sdvar.arguments import check_choice, check_int, check_share
from sdvar.decoding.acceptance import Acceptance, Coupled
from sdvar.decoding.schedule import Fixed, Schedule
from sdvar.decoding.strategies.base import Strategy
from sdvar.decoding.strategies.rounds import Rounds

if TYPE_CHECKING:
    from sdvar.decoding.state import DecodeState


@dataclass(frozen=True)
class Speculative(Strategy):
    """Draft gamma scales with the small model, verify them and the scale after them in one pass of the large one.

    Speculative decoding (Leviathan et al. 2023, Chen et al. 2023) with a scale, a whole token map, in place of a token.

    Args:
        gamma: scales drafted per round: an int >= 1, a schedule (Fixed, Adaptive, TokenBudget, Spans), or "auto", which
            measures what is fastest for the pair, the batch size and this machine before the first batch, and drafts
            nothing where speculation does not pay; see `sdvar.tune`.
        acceptance: the rule that judges a drafted scale.
        redraft: "draft" drafts every round with the draft model; "target" takes what the target picked for the later
            scales in the last round, and the draft model only where no such picks are left. The latter is for rules
            that do not read the draft's distribution.
        verify_scales: leave the scales from this one on to the draft model alone, 0 .. K. Lossy.
        max_disagreement: with gamma "auto" and `Coupled`, the share of tokens, 0 .. 1, that may differ from the
            baseline's: then draft tails and hand-offs are chosen from too. Lossy unless 0.
    """

    gamma: int | Schedule | Literal["auto"] = "auto"
    acceptance: Acceptance = field(default_factory=Coupled)
    redraft: str = "draft"
    verify_scales: int | None = None
    max_disagreement: float = 0.0

    smooth_allowed = False

    def __repr__(self) -> str:
        """Short, for tables: the last three arguments appear only where they are not the defaults."""
        shown = [f"gamma={self.gamma!r}", f"acceptance={self.acceptance!r}"]
        for name in ("redraft", "verify_scales", "max_disagreement"):
            if getattr(self, name) != getattr(type(self), name):
                shown.append(f"{name}={getattr(self, name)!r}")
        return f"Speculative({', '.join(shown)})"

    def __post_init__(self) -> None:
        if isinstance(self.gamma, str):
            if not self.auto:
                raise ValueError(f"gamma: expected an int >= 1, a schedule or 'auto', got {self.gamma!r}")
        elif not isinstance(self.gamma, Schedule):
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
        check_share("max_disagreement", self.max_disagreement)
        if self.max_disagreement and not (self.auto and self.acceptance.exact and self.verify_scales is None):
            raise ValueError(
                f"max_disagreement: expected 0 unless gamma is 'auto', acceptance exact (Coupled) and verify_scales "
                f"None, got {self.max_disagreement}"
            )

    @property
    def auto(self) -> bool:
        """Whether the schedule is still to be chosen."""
        return self.gamma == "auto"

    @property
    def schedule(self) -> Schedule:
        """The schedule; RuntimeError where it is still to be chosen."""
        if isinstance(self.gamma, str):
            raise RuntimeError("gamma: 'auto' has no schedule; sdvar.tune chooses one")
        return self.gamma if isinstance(self.gamma, Schedule) else Fixed(self.gamma)

    @property
    def lossless(self) -> bool:
        return self.acceptance.lossless and self.verify_scales is None and not self.max_disagreement

    @property
    def exact(self) -> bool:
        return self.acceptance.exact and self.verify_scales is None and not self.max_disagreement

    def check(self, scales: int) -> None:
        if not self.auto:
            self.schedule.check(scales)
        if self.verify_scales is not None and self.verify_scales > scales:
            raise ValueError(f"verify_scales: expected 0 to {scales}, or None for all, got {self.verify_scales}")

    def run(self, state: DecodeState) -> None:
        scales = len(state.pyramid)
        end = scales if self.verify_scales is None else self.verify_scales
        Rounds(state, self.schedule, self.acceptance, self.redraft == "target", end).run()
        state.decode_plain("draft", scales)
