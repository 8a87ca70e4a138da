"""What a draft is worth on this machine, by the planner's cost table, and what an accepted scale saves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lightning_modules.distilling.role import TAIL, Role
from sdvar.decoding.strategies.speculative import Speculative
from sdvar.pair import ModelPair
from sdvar.planning.candidates import spans_strategy
from sdvar.planning.costs import CostTable, draft_pass, target_pass
from sdvar.planning.expected import SpanModel
from sdvar.planning.probe import measure_costs
from sdvar.planning.replay import Replay
from sdvar.sampling import Sampling

BATCHES = (1, 64)
LEAST = 0.1  # of the mean saving: what a scale counts at least, since those after it are drafted from it


class Expected(NamedTuple):
    """What a draft is worth at a batch size.

    Attributes:
        strategy: the fastest, as text.
        target_calls: an image.
        speed: over the baseline.
    """

    strategy: str
    target_calls: float
    speed: float


class Worth:
    """Measures the costs of each of `BATCHES` when they are first asked for: they do not depend on the weights.

    A tail is expected to decode its scales after the target's, any other draft to be verified in the spans that are
    fastest.

    Args:
        sampling: what decodes.
        role: of the draft.
        seconds: to measure the costs of one batch size.
    """

    def __init__(self, sampling: Sampling, role: Role, seconds: float) -> None:
        self.sampling, self.role, self.seconds = sampling, role, seconds
        self._costs: dict[int, CostTable] = {}

    def of(self, pair: ModelPair, accepted: np.ndarray) -> dict[int, Expected]:
        """By batch size.

        Args:
            pair: with the draft.
            accepted: bool (n, K), whether the draft's picks of a scale are all the baseline's, of held-out images.
        """
        return {batch: self._at(pair, accepted, self._costs_of(pair, batch)) for batch in BATCHES}

    def savings(self, pair: ModelPair) -> list[float]:
        """What a token of each scale of the role counts, by the seconds that its scale saves at batch 1.

        Of a tail that is the target's pass over the scale less the draft's. Of another draft it is what one rejection
        of the scale adds to the planner's fastest schedule for a draft that agrees everywhere. No scale counts less
        than a tenth of the mean, and the mean over the tokens is 1.

        Args:
            pair: with the draft.
        """
        costs, scales = self._costs_of(pair, BATCHES[0]), range(self.role.first, self.role.last)
        if self.role.name == TAIL:
            saved = [costs.of(target_pass(k, k + 1), 1) - costs.of(draft_pass(k, k), 1) for k in scales]
        else:
            agreeing = np.zeros((1, len(pair.pyramid)), dtype=bool)
            agreeing[:, : self.role.last] = True
            model = SpanModel(agreeing, costs)
            seconds, spans = model.search(len(pair.pyramid), 1)[0]
            saved = [SpanModel(_without(agreeing, k), costs).seconds(spans) - seconds for k in scales]
        counted = np.maximum(saved, 0.0)
        counted = np.maximum(counted, LEAST * counted.mean()) if counted.any() else np.ones(len(counted))
        tokens = np.array([pair.pyramid.tokens[k] for k in scales])
        return (counted * tokens.sum() / (counted * tokens).sum()).tolist()

    def _costs_of(self, pair: ModelPair, batch: int) -> CostTable:
        if batch not in self._costs:
            self._costs[batch] = measure_costs(pair, self.sampling, batch, self.seconds)
        return self._costs[batch]

    def _at(self, pair: ModelPair, accepted: np.ndarray, costs: CostTable) -> Expected:
        model, scales = SpanModel(accepted, costs), len(pair.pyramid)
        plain = model.seconds((1,) * scales)
        if self.role.name == TAIL:
            spans = (1,) * self.role.first
            return Expected(
                repr(spans_strategy(spans, scales)), float(self.role.first - 1), plain / model.seconds(spans)
            )
        seconds, spans = model.search(scales, 1)[0]
        strategy, calls = spans_strategy(spans, scales), float(scales - 1)
        if isinstance(strategy, Speculative):
            calls = float(np.mean([_calls(strategy, row[None], pair) for row in accepted]))
        return Expected(repr(strategy), calls, plain / seconds)


def _without(accepted: np.ndarray, scale: int) -> np.ndarray:
    """The same with one scale rejected."""
    rejected = accepted.copy()
    rejected[:, scale] = False
    return rejected


def _calls(strategy: Speculative, accepted: np.ndarray, pair: ModelPair) -> int:
    return sum(images for step, images in Replay(strategy, accepted, pair.pyramid).steps if step.op == "target")
