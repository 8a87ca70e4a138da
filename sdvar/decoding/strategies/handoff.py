"""Hand-off: one model decodes the coarse scales, the other the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdvar.arguments import check_choice, check_int
from sdvar.decoding.strategies.base import Strategy

if TYPE_CHECKING:
    from sdvar.decoding.state import DecodeState


@dataclass(frozen=True)
class Handoff(Strategy):
    """The first ``entry`` scales from one model, the rest from the other. Lossy, no verification.

    Args:
        entry: scales that the first model decodes, 0 .. K.
        first: "draft" (the target refines a draft's layout) or "target" (the draft finishes, as in CoDe, Chen et al.,
            CVPR 2025).
        prefix: "block_causal" feeds the first model's scales to the second in one pass; "none" starts the second model
            blind, without them in its cache. That is for comparison only: no model was trained on it.
    """

    entry: int
    first: str = "draft"
    prefix: str = "block_causal"

    def __post_init__(self) -> None:
        check_int("entry", self.entry, least=0)
        check_choice("first", self.first, ("draft", "target"))
        check_choice("prefix", self.prefix, ("block_causal", "none"))

    @property
    def lossless(self) -> bool:
        """Only where the draft decodes nothing can be known from the arguments: draft first with entry 0."""
        return self.first == "draft" and self.entry == 0

    @property
    def exact(self) -> bool:
        return self.lossless

    def check(self, scales: int) -> None:
        if self.entry > scales:
            raise ValueError(f"entry: expected 0 to {scales}, the number of scales, got {self.entry}")

    def run(self, state: DecodeState) -> None:
        state.decode_plain(self.first, self.entry)
        second = "target" if self.first == "draft" else "draft"
        if self.prefix == "none" and self.entry < len(state.pyramid):
            state.stepper(second).start_blind(self.entry)
        state.decode_plain(second, len(state.pyramid))
