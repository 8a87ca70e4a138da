"""Passes captured once as CUDA graphs and replayed, where launching the kernels takes longer than running them."""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sdvar.models.protocol import Cache, Conditioning, NextScaleModel, Span
from sdvar.models.running.launches import launches_dominate
from sdvar.models.running.workspace import EagerWorkspace, branches, selected
from sdvar.rows import to_device

log = logging.getLogger("sdvar.graphs")

LIVENESS = "check_input_liveness"  # the option of torch's captures
_allowed = ContextVar("captures_allowed", default=True)
_checked = ContextVar("inputs_checked", default=False)


@contextmanager
def no_captures() -> Iterator[None]:
    """Within a block of code that is timed, passes that are not captured yet run without a graph."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


@contextmanager
def checked_inputs() -> Iterator[bool]:
    """What is captured within a block of code raises RuntimeError in a replay that would read memory that was freed.

    Gives whether this version of torch has that check; where it has not, nothing is checked.
    """
    token = _checked.set(True)
    try:
        yield _has_check(torch.cuda.CUDAGraph())
    finally:
        _checked.reset(token)


class Captured(NamedTuple):
    """A pass that can be replayed: write ``inputs`` and ``rows``, call ``graph.replay``, read ``logits``."""

    inputs: Tensor
    rows: Tensor | None
    logits: Tensor
    graph: torch.cuda.CUDAGraph


class GraphedWorkspace(EagerWorkspace):
    """A workspace whose passes are captured as CUDA graphs where launches dominate, else as `EagerWorkspace`.

    A graph has fixed shapes and addresses. A group smaller than the batch is padded to 1, 2, 4, … images with a row of
    the cache that no image uses, so that few graphs serve all groups. The graphs share one memory pool and one buffer
    of logits, which holds those of the last pass. They own all else that they read, the weights included.

    Args:
        model, images, guided, cache: as of `EagerWorkspace`; the cache has one row more, for padding.
    """

    spare_rows = 1

    def __init__(self, model: NextScaleModel, images: int, guided: bool, cache: Cache) -> None:
        super().__init__(model, images, guided, cache)
        self._captured: dict[tuple[int, ...], Captured | None] = {}  # None: runs without a graph
        self._full = False  # memory ran out
        module = model if isinstance(model, nn.Module) else nn.Module()
        self._weights = [value.detach() for value in itertools.chain(module.parameters(), module.buffers())]

    def _condition(self, conditioning: Conditioning, rows: Tensor) -> None:
        if self.conditioning is None:
            with torch.inference_mode(False):  # tensors of inference mode could not be written outside of it
                self.conditioning = selected(conditioning, rows)
        else:  # the graphs read these addresses
            for kept, values in zip(self.conditioning, conditioning):
                torch.index_select(values, 0, rows, out=kept)

    def run(self, images: Sequence[int], inputs: Tensor, span: Span, null: bool) -> Tensor:
        captured = self._find(images, inputs, span, null)
        if captured is None:
            return super().run(images, inputs, span, null)
        n, bucket = len(images), self._bucket(len(images))
        self._load(captured.inputs, captured.rows, images, inputs, null)
        captured.graph.replay()
        logits = captured.logits
        if not null:
            return logits[:n].clone()
        # guidance makes new numbers of these at once, so the buffer itself may be handed on
        return logits if n == bucket else torch.cat((logits[:n], logits[bucket : bucket + n]))

    def _bucket(self, images: int) -> int:
        """Images in the pass that serves so many."""
        return min(self.images, 1 << (images - 1).bit_length())

    def _find(self, images: Sequence[int], inputs: Tensor, span: Span, null: bool) -> Captured | None:
        bucket = self._bucket(len(images))
        # TF32 is part of what a graph computes
        key = *span, bucket, len(images) == self.images, null, torch.backends.cuda.matmul.allow_tf32
        if key in self._captured:
            return self._captured[key]
        if not self._gains(bucket * branches(null), span):
            self._captured[key] = None
        elif _allowed.get() and not self._full:
            captured = self._try_to_capture(images, inputs, span, null)
            if not self._full:
                self._captured[key] = captured
        return self._captured.get(key)

    def _gains(self, rows: int, span: Span) -> bool:
        """Whether launches dominate in such a pass, whose logits then fit into the buffer but for borderline cases."""
        return launches_dominate(self.model, rows, *span) and self._numbers(rows, span) <= self._room

    def _numbers(self, rows: int, span: Span) -> int:
        """Logits of a pass."""
        return rows * self.model.pyramid.span_tokens(span.logits_from, span.last) * self.model.codebook_size

    def _try_to_capture(self, images: Sequence[int], inputs: Tensor, span: Span, null: bool) -> Captured | None:
        name = f"scales {span.first}-{span.last - 1} of {self._bucket(len(images))} images"
        started = time.perf_counter()
        try:
            captured = self._prepare(images, inputs, span, null)
        except torch.OutOfMemoryError:
            self._captured, self._full = {}, True
            torch.cuda.empty_cache()
            log.warning("%s: no memory for a CUDA graph; this batch size runs without graphs", name)
            return None
        except RuntimeError as error:
            log.warning("%s: no CUDA graph, they run without (%s)", name, error)
            return None
        self.model.capture_seconds += time.perf_counter() - started
        log.info("%s captured; %.2f s of capturing so far", name, self.model.capture_seconds)
        return captured

    def _prepare(self, images: Sequence[int], inputs: Tensor, span: Span, null: bool) -> Captured:
        first, last, visible_from, logits_from = span
        whole, n = len(images) == self.images, self._bucket(len(images)) * branches(null)
        with torch.inference_mode(False):
            static = torch.zeros(n, *inputs.shape[1:], dtype=inputs.dtype, device=self.device)
            rows = None if whole else torch.zeros(n, dtype=torch.int64, device=self.device)
        logits = self._logits[: self._numbers(n, span)].view(n, -1, self.model.codebook_size)
        self._load(static, rows, images, inputs, null)

        def work() -> None:
            cache, conditioning = self._all_images(null)
            if rows is not None:
                any_row = rows.clamp(max=self.rows - 1)  # for the padding
                cache, conditioning = self.cache, selected(self._begun, any_row)
            logits.copy_(
                self.model.forward_span(conditioning, static, first, last, cache, rows, visible_from, logits_from)
            )

        pool = next((one.graph.pool() for one in self._captured.values() if one), None)
        with torch.inference_mode(False), torch.no_grad():
            return Captured(static, rows, logits, capture(work, self.device, pool))

    @functools.cached_property
    def _room(self) -> int:
        """Logits of the largest pass that is captured."""
        return most_logits(self.model, self.images, self.guided)

    @functools.cached_property
    def _logits(self) -> Tensor:
        """The buffer."""
        with torch.inference_mode(False):
            return torch.empty(self._room, dtype=self.model.logits_dtype, device=self.device)

    def _load(self, static: Tensor, rows: Tensor | None, images: Sequence[int], inputs: Tensor, null: bool) -> None:
        n, bucket = len(images), self._bucket(len(images))
        static.unflatten(0, (branches(null), bucket))[:, :n] = inputs
        if rows is not None:
            padding = [self.rows] * (bucket - n)
            numbers = [*images, *padding]
            if null:
                numbers += [*(i + self.images for i in images), *padding]
            rows.copy_(to_device(numbers, self.device))


def most_logits(model: NextScaleModel, images: int, guided: bool) -> int:
    """Logits of the largest pass that is captured in a batch of so many images."""
    scales, rows, most = len(model.pyramid), branches(guided), 0
    buckets = {min(images, 1 << power) for power in range(images.bit_length() + 1)}
    for first, last in itertools.combinations(range(1, scales + 1), 2):  # scale 0 is in the class prefix
        tokens = model.pyramid.span_tokens(first, last)
        sizes = [size for size in buckets if launches_dominate(model, size * rows, first, last)]
        most = max(most, max(sizes, default=0) * rows * tokens * model.codebook_size)
    return most


def graph_bytes(model: NextScaleModel, images: int, guided: bool) -> int:
    """Bytes that the graphs of a batch size take beyond its cache: the buffer of logits, and the largest pass."""
    logits = most_logits(model, images, guided)
    return 2 * logits * model.logits_dtype.itemsize + model.cost().activation_bytes(1, logits // model.codebook_size)


def capture(work: Callable[[], object], device: torch.device, pool: Any = None) -> torch.cuda.CUDAGraph:
    """Work without arguments as a CUDA graph.

    Unlike torch.cuda.graph it leaves the allocator's caches alone and the current stream as it was when it fails.

    Args:
        work: what is captured.
        device: where it runs.
        pool: of a live graph, to share its memory.
    """
    stream, graph = _capture_stream(device), torch.cuda.CUDAGraph()
    # other threads may use the GPU meanwhile
    options: dict[str, Any] = {"pool": pool, "capture_error_mode": "thread_local"}
    if _checked.get() and _has_check(graph):
        options[LIVENESS] = True
    with torch.cuda.device(device):
        current = torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(2):  # kernels choose their algorithms and workspaces here, not in the capture
                work()
            graph.capture_begin(**options)
            try:
                work()
            finally:
                graph.capture_end()
        current.wait_stream(stream)
    return graph


def _has_check(graph: torch.cuda.CUDAGraph) -> bool:
    return LIVENESS in inspect.signature(graph.capture_begin).parameters


@functools.cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
