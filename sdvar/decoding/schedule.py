"""Schedules: how many scales to draft in a round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from sdvar.arguments import check_int
from sdvar.pyramid import ScalePyramid


class Schedule(ABC):
    """How many scales an image drafts in its next round. A small immutable value; each image has its own gamma."""

    @property
    def start(self) -> int:
        """An image's gamma before its first round."""
        return 0

    def check(self, scales: int) -> None:  # noqa: B027 - most schedules fit every pyramid
        """Raise ValueError if the schedule does not fit a pyramid of ``scales`` scales."""

    @abstractmethod
    def draft_length(self, pyramid: ScalePyramid, scale: int, cached: int, gamma: int) -> int:
        """Scales to draft; 0 is a plain target step. More than there are is taken as all that may be drafted.

        Args:
            pyramid: the token maps.
            scale: the image's next scale to commit.
            cached: scales in the target's cache; the pass reads those from ``cached`` on.
            gamma: of the image.
        """

    def after(self, gamma: int, drafted: int, accepted: int) -> int:
        """The image's gamma after a round in which ``accepted`` of ``drafted`` >= 1 scales were accepted."""
        return gamma


@dataclass(frozen=True)
class Fixed(Schedule):
    """``n`` scales per round, fewer where the pyramid ends: the last scale is never drafted.

    Args:
        n: gamma, at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        check_int("gamma", self.n, least=1)

    def draft_length(self, pyramid: ScalePyramid, scale: int, cached: int, gamma: int) -> int:
        return self.n


@dataclass(frozen=True)
class Adaptive(Schedule):
    """One scale more after a round in which all were accepted, one less after one whose first was rejected.

    Args:
        start: gamma of an image's first round.
        min, max: its bounds, 1 <= min <= start <= max.
    """

    start: int = 2
    min: int = 1
    max: int = 8

    def __post_init__(self) -> None:
        check_int("min", self.min, least=1)
        check_int("start", self.start, least=1)
        check_int("max", self.max, least=1)
        if not self.min <= self.start <= self.max:
            raise ValueError(f"start: expected min <= start <= max, got min {self.min}, {self.start}, max {self.max}")

    def draft_length(self, pyramid: ScalePyramid, scale: int, cached: int, gamma: int) -> int:
        return gamma

    def after(self, gamma: int, drafted: int, accepted: int) -> int:
        step = 1 if accepted == drafted else -1 if accepted == 0 else 0
        return max(self.min, min(self.max, gamma + step))


@dataclass(frozen=True)
class TokenBudget(Schedule):
    """As many scales as fit: the target's pass, bonus scale included, has at most ``n`` query tokens.

    Where not even one drafted scale and its successor fit, the target steps alone, whatever that takes.

    Args:
        n: tokens, at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        check_int("n", self.n, least=1)

    def draft_length(self, pyramid: ScalePyramid, scale: int, cached: int, gamma: int) -> int:
        lengths = range(len(pyramid) - scale)
        return max(
            (length for length in lengths if pyramid.span_tokens(cached, scale + length + 1) <= self.n), default=0
        )


@dataclass(frozen=True)
class Spans(Schedule):
    """Rounds that end where the pyramid is cut into spans, such as (8, 1, 1) for ten scales.

    A round drafts all but the last scale of its span, which is the bonus scale; after a rejected scale the next
    round goes on to the end of the same span. Past the last cut, the last span is repeated.

    Scale 0 takes no pass, so that (1, 3, 1) and (4, 1) are the same.

    Args:
        scales: scales committed per round if all are accepted, each at least 1.
    """

    scales: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", checked_spans("scales", self.scales))

    def check(self, scales: int) -> None:
        check_total("scales", self.scales, scales)

    def draft_length(self, pyramid: ScalePyramid, scale: int, cached: int, gamma: int) -> int:
        return end_of_span(self.scales, scale) - scale - 1


def checked_spans(name: str, spans: object) -> tuple[int, ...]:
    """Spans as a tuple, or an error that calls them ``name``."""
    if isinstance(spans, str) or not isinstance(spans, Iterable):
        raise TypeError(f"{name}: expected ints >= 1 such as (8, 1, 1), got {spans!r}")
    spans = tuple(spans)
    if not spans:
        raise ValueError(f"{name}: expected ints >= 1 such as (8, 1, 1), got none")
    for span in spans:
        check_int(name, span, least=1)
    return spans


def check_total(name: str, spans: tuple[int, ...], scales: int) -> None:
    """Raise ValueError if the spans have more than ``scales`` scales."""
    if sum(spans) > scales:
        raise ValueError(
            f"{name}: expected spans of {scales} scales in all, or fewer (the last span is then repeated), got "
            f"{spans}, which are {sum(spans)}"
        )


def end_of_span(spans: tuple[int, ...], scale: int) -> int:
    """The scale before which the span of ``scale`` ends; past the last cut the last span is repeated."""
    end = 0
    for span in spans:
        end += span
        if end > scale:
            return end
    return scale + 1 + (end - scale - 1) % spans[-1]
