"""Passes captured once as CUDA graphs and replayed: a coarse scale has little work and many kernel launches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sdvar.models.protocol import NextScaleModel
from sdvar.models.workspace import EagerWorkspace
from sdvar.rows import to_device

log = logging.getLogger("sdvar.graphs")

Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]


class Captured(NamedTuple):
    """A pass that can be replayed: write ``inputs`` and ``rows``, call ``replay``, read ``logits``."""

    inputs: Tensor
    rows: Tensor | None
    replay: Callable[[], object]
    logits: Tensor


class GraphedWorkspace(EagerWorkspace):
    """A workspace whose passes are captured once as CUDA graphs and replayed.

    A graph has fixed shapes and addresses. A group smaller than the batch is padded to 1, 2, 4, … images with a row of
    the cache that no image uses, so that few graphs serve all groups. All graphs of a workspace share one memory pool.

    Args:
        capture: turns a function without arguments into (replay, its result); CUDA graphs but in tests.
    """

    def __init__(self, model: NextScaleModel, images: int, guided: bool, capture: Capture | None = None) -> None:
        super().__init__(model, images, guided, spare_rows=1)  # padding writes to that row
        self._capture = capture or _CudaCapture()
        self._captured: dict[tuple[int, ...], Captured | None] = {}

    def begin(self, labels: Tensor) -> None:
        previous = self.conditioning
        super().begin(labels)
        if previous is not None:  # the graphs read these addresses
            for kept, new in zip(previous.tensors(), self._begun.tensors()):
                kept.copy_(new)
            self.conditioning = previous
        else:
            with torch.inference_mode(False):  # tensors of inference mode could not be written outside of it
                self.conditioning = self._begun.clone()

    def run(
        self, images: Sequence[int], inputs: Tensor, first: int, last: int, visible_from: int, logits_from: int
    ) -> Tensor:
        n = len(images)
        bucket = min(self.images, 1 << (n - 1).bit_length())
        key = (first, last, visible_from, logits_from, bucket, n == self.images)
        if key not in self._captured:
            self._captured[key] = self._try_to_capture(images, inputs, key)
        captured = self._captured[key]
        if captured is None:
            return super().run(images, inputs, first, last, visible_from, logits_from)
        self._load(captured, images, inputs, bucket)
        captured.replay()
        logits = captured.logits
        if not self.guided:
            return logits[:n].clone()
        # guidance makes new numbers of these at once, so the graph's own memory may be handed on
        return logits if n == bucket else torch.cat((logits[:n], logits[bucket : bucket + n]))

    def _try_to_capture(self, images: Sequence[int], inputs: Tensor, key: tuple[int, ...]) -> Captured | None:
        span = f"scales {key[0]}-{key[1] - 1} of {key[4]} images"
        started = time.perf_counter()
        try:
            captured = self._prepare(images, inputs, key)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("%s: no CUDA graph, they run without (%s)", span, error)
            return None
        self.model.capture_seconds += time.perf_counter() - started
        log.info("%s captured; %.2f s of capturing so far", span, self.model.capture_seconds)
        return captured

    def _prepare(self, images: Sequence[int], inputs: Tensor, key: tuple[int, ...]) -> Captured:
        first, last, visible_from, logits_from, bucket, whole = key
        branches = 2 if self.guided else 1
        with torch.inference_mode(False):
            static = torch.zeros(bucket * branches, *inputs.shape[1:], dtype=inputs.dtype, device=inputs.device)
            rows = None if whole else torch.zeros(bucket * branches, dtype=torch.int64, device=inputs.device)
        self._load(Captured(static, rows, lambda: None, static), images, inputs, bucket)

        def span() -> Tensor:
            cache, conditioning = self.whole, self._begun
            if rows is not None:
                cache, conditioning = self.cache, conditioning.rows(rows.clamp(max=self.rows - 1))  # padding: any row
            return self.model.forward_span(conditioning, static, first, last, cache, rows, visible_from, logits_from)

        with torch.inference_mode(False), torch.no_grad():
            replay, logits = self._capture(span)
        return Captured(static, rows, replay, logits)

    def _load(self, captured: Captured, images: Sequence[int], inputs: Tensor, bucket: int) -> None:
        n = len(images)
        for branch in range(2 if self.guided else 1):
            captured.inputs[branch * bucket : branch * bucket + n] = inputs
        if captured.rows is not None:
            padding = [self.rows] * (bucket - n)
            rows = [*images, *padding]
            if self.guided:
                rows += [*(i + self.images for i in images), *padding]
            captured.rows.copy_(to_device(rows, captured.rows.device))


class _CudaCapture:
    """Captures into one memory pool."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # kernels choose their algorithms and workspaces here, not in the capture
            for _ in range(2):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            result = function()
        return graph.replay, result
