"""A clock for one decode: which part of the work took how long, and which passes of the models ran."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch

PARTS = ("draft", "target", "sampling", "tokenizer")
_UNTIMED = nullcontext()


class Pass(NamedTuple):
    """One pass of a model, as far as its cost depends on it.

    Attributes:
        model: "draft" or "target".
        rows: rows of the batch, guidance branches counted.
        first, last: the scales that it processed; ``first == last`` is the conditioning, made once a decode.
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
        self._marks: list[tuple[str, tuple[int, int], tuple[object, object], Pass | None]] = []

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

    def _now(self) -> object:
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


def _seconds(start: object, end: object) -> float:
    return end - start if isinstance(start, float) else start.elapsed_time(end) / 1000
