"""Time: of work on a device as a whole, and, by a clock in a decode, of its parts and of the models' passes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch

PARTS = ("draft", "target", "sampling", "tokenizer")
_UNTIMED = nullcontext()


def now(device: torch.device) -> float:
    """Seconds of a steady clock, read once all work given to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Pass(NamedTuple):
    """One pass of a model, as far as its cost depends on it.

    Attributes:
        model: "draft" or "target".
        rows: rows of the batch, guidance branches counted.
        first, last: the scales that it processed; ``first == last`` is the start of a decode, which takes over the
            class prefixes.
        visible_from: first scale that was attended to.
        logits_from: first scale whose logits were made.
    """

    model: str
    rows: int
    first: int
    last: int
    visible_from: int
    logits_from: int


class Stretch(NamedTuple):
    """A timed stretch of a decode. Stretches do not overlap.

    Attributes:
        part: one of ``PARTS``.
        first, last: the scales first <= k < last that it worked on; none for what concerns no scale.
        seconds: how long it took.
        work: the pass, where the stretch is one.
    """

    part: str
    first: int
    last: int
    seconds: float
    work: Pass | None


class Clock:
    """Times the parts of one decode; give it to ``sdvar.decode``.

    On CUDA it leaves events in the stream and reads them when asked, so the decode is not made to wait.

    Args:
        device: where the models are.
    """

    def __init__(self, device: str | torch.device) -> None:
        self._device = torch.device(device)
        self._marks: list[tuple[str, tuple[int, int], tuple[Any, Any], Pass | None]] = []

    @contextmanager
    def time(self, part: str, first: int = 0, last: int = 0, work: Pass | None = None) -> Iterator[None]:
        """Time a block of code; see `Stretch`."""
        start = self._now()
        yield
        self._marks.append((part, (first, last), (start, self._now()), work))

    def stretches(self) -> list[Stretch]:
        """All that was timed, in order; waits for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return [Stretch(part, *span, _seconds(*ends), work) for part, span, ends, work in self._marks]

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


def timed(
    clock: Clock | None, part: str, first: int = 0, last: int = 0, work: Pass | None = None
) -> AbstractContextManager[None]:
    """``clock.time(...)``, or nothing where there is no clock."""
    return _UNTIMED if clock is None else clock.time(part, first, last, work)


def seconds_per_scale(stretches: Iterable[Stretch], tokens: Sequence[int]) -> dict[str, list[float]]:
    """The time of each part at each scale.

    The time of a pass over several scales is shared among them by their tokens.

    Args:
        stretches: of one decode.
        tokens: n_k of all K scales.

    Returns:
        For each of ``PARTS`` K + 1 numbers, in seconds: one per scale, and last what concerns no scale (the models'
        class prefixes, the tokenizer's decoder).
    """
    seconds = {part: [0.0] * (len(tokens) + 1) for part in PARTS}
    for stretch in stretches:
        ours, span = seconds[stretch.part], range(stretch.first, stretch.last)
        together = sum(tokens[k] for k in span)
        for k in span:
            ours[k] += stretch.seconds * tokens[k] / together
        if not span:
            ours[-1] += stretch.seconds
    return seconds


def _seconds(start: Any, end: Any) -> float:
    if isinstance(start, float):
        return end - start
    return start.elapsed_time(end) / 1000
