"""Plain VAR decoding: K - 1 passes of one model, one per scale after the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdvar.arguments import check_choice
from sdvar.decoding.strategies.base import Strategy

if TYPE_CHECKING:
    from sdvar.decoding.state import DecodeState
    from sdvar.models.protocol import NextScaleModel
    from sdvar.pair import ModelPair


@dataclass(frozen=True)
class Baseline(Strategy):
    """Plain next-scale decoding with one model (VAR, Tian et al. 2024).

    Args:
        model: "target" or "draft".
    """

    model: str = "target"

    def __post_init__(self) -> None:
        check_choice("model", self.model, ("target", "draft"))

    @property
    def lossless(self) -> bool:
        """True for the target: it is its own reference."""
        return self.model == "target"

    @property
    def exact(self) -> bool:
        return self.lossless

    def models_of(self, pair: ModelPair) -> list[NextScaleModel]:
        return [getattr(pair, self.model)]

    def run(self, state: DecodeState) -> None:
        state.decode_plain(self.model, len(state.pyramid))
