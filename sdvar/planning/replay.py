"""The rounds of a lossless decode replayed without models, from a record of which drafted scales are accepted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sdvar.decoding.state import grouped
from sdvar.decoding.strategies.speculative import Speculative
from sdvar.planning.costs import BEGIN_DRAFT, BEGIN_TARGET, NOISE, CostTable, Step, at, draft_pass, target_pass
from sdvar.pyramid import ScalePyramid


@dataclass
class Replay:
    """The steps of one decode of a batch.

    With `sdvar.Coupled` all that is committed is the baseline's, so whether a drafted scale is accepted depends on the
    image and the scale alone: the draft's pick after the baseline's coarser scales is the baseline's, or is not. So
    every schedule follows from one table.

    Args:
        strategy: with an exact rule, drafts from the draft model.
        accepted: bool (B, K), whether the draft's picks of a scale are all the baseline's.
        pyramid: the token maps.

    Attributes:
        steps: in order, each with its number of images.
    """

    strategy: Speculative
    accepted: np.ndarray
    pyramid: ScalePyramid

    def __post_init__(self) -> None:
        batch, scales = self.accepted.shape
        end = scales if self.strategy.verify_scales is None else self.strategy.verify_scales
        self.scales = [1] * batch
        self.gamma = [self.strategy.schedule.start] * batch
        self.cached = {model: [1] * batch for model in ("draft", "target")}
        self.begun: set[Step] = set()
        self.steps: list[tuple[Step, int]] = [(NOISE, batch)]
        self._begin(BEGIN_TARGET if end else BEGIN_DRAFT)
        self.steps.append((at("commit", 0), batch))  # it takes no pass
        while min(self.scales) < end:
            scale = min(self.scales)
            waiting = [image for image in range(batch) if self.scales[image] == scale]
            for (length, _), images in grouped(waiting, lambda i: (self._length(i, end), self.cached["target"][i])):
                self._round(images, scale, length)
        for scale in range(max(1, end), scales):
            self._draft_pass(range(batch), scale)
            self.steps.append((at("commit", scale), batch))

    def seconds(self, costs: CostTable) -> float:
        """How long that takes."""
        return sum(costs.of(step, images) for step, images in self.steps)

    def _length(self, image: int, end: int) -> int:
        scale, cached = self.scales[image], self.cached["target"][image]
        length = self.strategy.schedule.draft_length(self.pyramid, scale, cached, self.gamma[image])
        return min(length, end - 1 - scale)

    def _round(self, images: list[int], scale: int, length: int) -> None:
        for k in range(scale, scale + length):
            self._draft_pass(images, k)
            self.steps.append((at("propose", k), len(images)))
        first, last = self.cached["target"][images[0]], scale + length + 1
        self._pass(target_pass(first, last, scale), images)
        kept = images
        for k in range(scale, last - 1):
            if kept:
                self.steps.append((at("settle", k), len(kept)))
            rejected = [image for image in kept if not self.accepted[image, k]]
            kept = [image for image in kept if self.accepted[image, k]]
            self._end(rejected, k + 1, length, k - scale)
        if kept:
            self.steps.append((at("commit", last - 1), len(kept)))
            self._end(kept, last, length, length)

    def _end(self, images: list[int], settled: int, length: int, accepted: int) -> None:
        for image in images:
            self.scales[image] = settled
            for cached in self.cached.values():
                cached[image] = min(cached[image], settled)
            if length:
                self.gamma[image] = self.strategy.schedule.after(self.gamma[image], length, accepted)

    def _draft_pass(self, images: Iterable[int], scale: int) -> None:
        self._begin(BEGIN_DRAFT)
        for cached, group in grouped(images, lambda image: self.cached["draft"][image]):
            self._pass(draft_pass(cached, scale), group)

    def _begin(self, step: Step) -> None:
        if step not in self.begun:
            self.begun.add(step)
            self.steps.append((step, len(self.scales)))

    def _pass(self, step: Step, images: list[int]) -> None:
        self.steps.append((step, len(images)))
        for image in images:
            self.cached[step.op][image] = step.last


def mean_seconds(
    strategy: Speculative, accepted: np.ndarray, pyramid: ScalePyramid, costs: CostTable, batches: int
) -> float:
    """Mean time of a schedule over batches drawn from recorded images, the same ones in every call.

    Args:
        strategy: see `Replay`.
        accepted: bool (n, K) of the recorded images.
        pyramid: the token maps.
        costs: of the batch size.
        batches: how many are drawn; for a batch of one each recorded image is replayed once instead.
    """
    if costs.batch == 1:
        rows, counts = np.unique(accepted, axis=0, return_counts=True)  # equal images need one replay
        return float(np.average([Replay(strategy, row[None], pyramid).seconds(costs) for row in rows], weights=counts))
    draws = np.random.default_rng(0).integers(len(accepted), size=(batches, costs.batch))
    return float(np.mean([Replay(strategy, accepted[rows], pyramid).seconds(costs) for rows in draws]))
