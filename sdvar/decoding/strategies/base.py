"""What a decoding strategy is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdvar.decoding.state import DecodeState
    from sdvar.models.protocol import NextScaleModel
    from sdvar.pair import ModelPair


class Strategy(ABC):
    """How the draft and the target share the work. A small immutable value; the state of a decode is its DecodeState.

    Attributes:
        smooth_allowed: whether ``Sampling.more_smooth`` makes sense with it.
    """

    smooth_allowed = True

    @property
    @abstractmethod
    def lossless(self) -> bool:
        """Whether the output is distributed exactly as the target's."""

    @property
    def exact(self) -> bool:
        """Whether the output is the target's own for the same seed, token for token; such a strategy is lossless."""
        return False

    def check(self, scales: int) -> None:  # noqa: B027 - most strategies fit every pyramid
        """Raise ValueError if the strategy does not fit a pyramid of ``scales`` scales."""

    def models_of(self, pair: ModelPair) -> list[NextScaleModel]:
        """The models of a pair that it runs."""
        return [pair.draft, pair.target]

    @abstractmethod
    def run(self, state: DecodeState) -> None:
        """Commit every scale of every image of the state."""
