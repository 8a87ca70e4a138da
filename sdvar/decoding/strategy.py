"""What a decoding strategy is, and the checks of its arguments."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdvar.decoding.state import DecodeState


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

    @abstractmethod
    def run(self, state: DecodeState) -> None:
        """Commit every scale of every image of the state."""


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def check_int(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int >= {least}, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected an int >= {least}, got {value}")


def check_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number from 0 to 1, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, got {value}")


def check_number(name: str, value: object, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number >= {least}, got {value!r}")
    if not least <= value < math.inf:
        raise ValueError(f"{name}: expected a number >= {least}, got {value}")
