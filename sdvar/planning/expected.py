"""Expected time of schedules of spans, and the best of them by dynamic programming over scales.

It is exact under the cost table, for images that are independent of each other. All images of a batch wait for each
other at the end of a span. Within a span each drafted scale of an image is judged once, and the image begins another
round after it if and only if it was rejected. So the number of images in the round that starts at a scale is binomial
with the share of images whose draft of the scale before is rejected, wherever the span began. After a span of more than
one scale the draft's cache always lacks the last one.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, pairwise

import numpy as np

from sdvar.decoding.schedule import end_of_span
from sdvar.decoding.strategies.parallel import Parallel
from sdvar.planning.costs import BEGIN_DRAFT, BEGIN_TARGET, NOISE, CostTable, Step, at, draft_pass, target_pass


class SpanModel:
    """Expected seconds of decodes whose rounds end where the pyramid is cut into spans.

    Args:
        accepted: bool (n, K) of recorded images, see `sdvar.planning.replay.Replay`.
        costs: of the batch size.
    """

    def __init__(self, accepted: np.ndarray, costs: CostTable) -> None:
        self.accepted, self.costs = accepted, costs
        self.scales = accepted.shape[1]
        self.span = cache(self._span)

    def search(self, end: int, keep: int) -> list[tuple[float, tuple[int, ...]]]:
        """The ``keep`` fastest ways to cut the scales before ``end``, which are verified; the draft does the rest.

        Returns:
            (expected seconds of the whole decode, scales of each span), fastest first; spans of one scale throughout
            are plain decoding. The first span is scale 0 alone, which takes no pass.
        """

        @cache
        def rest(settled: int, cached: int) -> list[tuple[float, tuple[int, ...]]]:
            """The fastest ways on, with ``settled`` scales done, ``cached`` of them in the draft's cache."""
            if settled == end:
                return [(self._tail(end, cached), ())]
            ways = (
                (self.span(settled, stop, cached) + seconds, (stop - settled, *spans))
                for stop in range(settled + 1, end + 1)
                for seconds, spans in rest(stop, self._cached_after(settled, stop, cached))
            )
            return heapq.nsmallest(keep, ways)

        if not end:
            return [(self._start(end) + self._tail(1, 1), ())]
        return [(self._start(end) + seconds, (1, *spans)) for seconds, spans in rest(1, 1)]

    def seconds(self, spans: Sequence[int]) -> float:
        """Expected seconds of one schedule; the draft does the scales after the last span."""
        settled, cached, total = 1, 1, self._start(sum(spans))
        for stop in accumulate(spans):
            if stop > settled:  # scale 0 takes no pass, whatever span it is in
                total += self.span(settled, stop, cached)
                cached, settled = self._cached_after(settled, stop, cached), stop
        return total + self._tail(settled, cached)

    def handoff_seconds(self, entry: int) -> float:
        """Seconds of ``Handoff(entry, first="draft")``, 1 <= entry < K."""
        steps = [NOISE, BEGIN_DRAFT, BEGIN_TARGET, target_pass(1, entry + 1, entry)]
        steps += [draft_pass(scale, scale) for scale in range(1, entry)]
        steps += [target_pass(scale, scale + 1) for scale in range(entry + 1, self.scales)]
        return self._all(*steps, *(at("commit", scale) for scale in range(self.scales)))

    def parallel_seconds(self, strategy: Parallel) -> float:
        """Seconds of a span of scales per pass of the target."""
        firsts = [1]
        while firsts[-1] < self.scales:
            firsts.append(min(self.scales, end_of_span(strategy.spans, firsts[-1])))
        passes = (target_pass(first, last) for first, last in pairwise(firsts))
        return self._start(self.scales) + self._all(*passes, *(at("commit", k) for k in range(1, self.scales)))

    @staticmethod
    def _cached_after(first: int, stop: int, cached: int) -> int:
        return stop - 1 if stop - first > 1 else cached

    def _start(self, end: int) -> float:
        return self._all(NOISE, *([BEGIN_TARGET] if end else []), at("commit", 0))

    def _span(self, first: int, stop: int, cached: int) -> float:
        """Expected seconds until the scales first <= k < stop are settled for all images."""
        begin = self._all(BEGIN_DRAFT) if stop - first > 1 and cached == 1 else 0.0
        everyone = np.ones(len(self.accepted), dtype=bool)
        again = (self._round(k, stop, k, ~self.accepted[:, k - 1]) for k in range(first + 1, stop))
        return begin + self._round(first, stop, cached, everyone) + sum(again)

    def _round(self, scale: int, stop: int, cached: int, images: np.ndarray) -> float:
        """Expected seconds of the round that starts at ``scale`` for the images selected by bool (n,)."""
        drafted = range(scale, stop - 1)
        steps = [draft_pass(cached if k == scale else k, k) for k in drafted] + [at("propose", k) for k in drafted]
        total = sum(self._for(step, images) for step in (*steps, target_pass(scale, stop)))
        for k in drafted:
            total += self._for(at("settle", k), images)
            images = images & self.accepted[:, k]
        return total + self._for(at("commit", stop - 1), images)

    def _tail(self, end: int, cached: int) -> float:
        scales = range(end, self.scales)
        steps = [BEGIN_DRAFT] if scales and cached == 1 else []
        steps += [draft_pass(cached if scale == end else scale, scale) for scale in scales]
        return self._all(*steps, *(at("commit", scale) for scale in scales))

    def _all(self, *steps: Step) -> float:
        """Seconds of steps for the whole batch."""
        return sum(self.costs.of(step, self.costs.batch) for step in steps)

    def _for(self, step: Step, images: np.ndarray) -> float:
        return self.costs.expected(step, float(images.mean()))
