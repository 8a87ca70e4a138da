"""Schedules: how many scales to draft in a round."""

from __future__ import annotations

from dataclasses import dataclass

from sdvar.decoding.strategy import check_int


@dataclass(frozen=True)
class Fixed:
    """Draft ``n`` scales a round, fewer where the pyramid ends: the last scale is never drafted.

    Args:
        n: gamma, at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        check_int("gamma", self.n, least=1)

    def draft_length(self, scale: int, scales: int) -> int:
        """Scales to draft when ``scale`` is the first unsettled one of ``scales``; 0 is a plain target step."""
        return min(self.n, scales - 1 - scale)
