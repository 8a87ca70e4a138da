"""What one decode with one model works in: the KV cache, the conditioning, and its passes, captured as CUDA graphs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from sdvar.indices import to_device

if TYPE_CHECKING:
    from sdvar.models.transformer import VAR, Conditioning

log = logging.getLogger("sdvar.graphs")


class Workspace:
    """Runs spans of scales for groups of a batch of images.

    Args:
        model: the VAR.
        images: B.
        guided: whether a null branch runs beside the class branch; it takes the rows B .. 2B - 1.
        spare_rows: rows of the cache after those of the images.

    Attributes:
        conditioning: of all rows, see `begin`.
        cache: KV cache of all rows; ``whole`` is the part of it that a pass of all images uses.
    """

    def __init__(self, model: VAR, images: int, guided: bool, spare_rows: int = 0) -> None:
        self.model, self.images, self.guided = model, images, guided
        self.conditioning: Conditioning | None = None
        self.cache = model.new_cache(self.rows + spare_rows)
        self.whole = self.cache.head(self.rows)

    @property
    def rows(self) -> int:
        return self.images * (2 if self.guided else 1)

    def fits(self, images: int, guided: bool) -> bool:
        """Whether it may serve another decode, of a model that has not been moved or converted since."""
        weight = self.model.cache_dtype, self.model.device
        same_model = weight == (self.cache.keys.dtype, self.cache.keys.device)
        return same_model and (images, guided) == (self.images, self.guided)

    def begin(self, labels: Tensor) -> None:
        """Start a decode of B images with labels int64 (B,)."""
        if self.guided:
            labels = torch.cat((labels, torch.full_like(labels, self.model.num_classes)))
        self.conditioning = self.model.condition(labels)

    def run(
        self, images: Sequence[int], inputs: Tensor, first: int, last: int, visible_from: int, logits_from: int
    ) -> Tensor:
        """Logits of both branches for a group of images.

        Args:
            images: n ascending image numbers.
            inputs: (n, tokens, C_vae), see `VAR.forward_span`; the branches share them.
            first, last, visible_from, logits_from: as there.

        Returns:
            (n, tokens from ``logits_from``, V), or (2n, …) with the null branch's after the class branch's.
        """
        cache, rows, conditioning = self.whole, None, self.conditioning
        if len(images) < self.images:
            cache, rows = self.cache, self._rows_of(images, inputs.device)
            conditioning = conditioning.rows(rows)
        if self.guided:
            inputs = torch.cat((inputs, inputs))
        return self.model.forward_span(conditioning, inputs, first, last, cache, rows, visible_from, logits_from)

    def _rows_of(self, images: Sequence[int], device: torch.device) -> Tensor:
        rows = to_device(images, device)
        return torch.cat((rows, rows + self.images)) if self.guided else rows


class Captured(NamedTuple):
    """A pass that can be replayed: write ``inputs`` and ``rows``, call ``replay``, read ``logits``."""

    inputs: Tensor
    rows: Tensor | None
    replay: Callable[[], None]
    logits: Tensor


class GraphedWorkspace(Workspace):
    """A workspace whose passes are captured once as CUDA graphs and replayed.

    A graph has fixed shapes and addresses. A group smaller than the batch is padded to 1, 2, 4, … images with a row of
    the cache that no image uses, so that few graphs serve all groups. All graphs of a workspace share one memory pool.

    Args:
        capture: turns a function without arguments into (replay, its result); CUDA graphs but in tests.
    """

    def __init__(self, model: VAR, images: int, guided: bool, capture: Callable | None = None) -> None:
        super().__init__(model, images, guided, spare_rows=1)  # that row takes what padding writes
        self._capture = capture or _CudaCapture()
        self._captured: dict[tuple[int, ...], Captured | None] = {}

    def begin(self, labels: Tensor) -> None:
        previous = self.conditioning
        super().begin(labels)
        if previous is not None:  # the graphs read these addresses
            for kept, new in zip(previous.tensors(), self.conditioning.tensors()):
                kept.copy_(new)
            self.conditioning = previous
        else:
            with torch.inference_mode(False):  # tensors of inference mode could not be written outside of it
                self.conditioning = self.conditioning.clone()

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
            if whole:
                return self.model.forward_span(
                    self.conditioning, static, first, last, self.whole, None, visible_from, logits_from
                )
            conditioning = self.conditioning.rows(rows.clamp(max=self.rows - 1))  # any will do for the padding
            return self.model.forward_span(
                conditioning, static, first, last, self.cache, rows, visible_from, logits_from
            )

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

    def __call__(self, function: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
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
