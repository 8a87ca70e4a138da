"""How long each step takes for groups of each size: a table, from the sizes that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import sdvar
from eval.planning.steps import Step


@dataclass(frozen=True)
class CostTable:
    """Seconds of every step.

    Attributes:
        batch: images of a decode, B.
        seconds: for each step float64 (B + 1,), by the number of images; no time for none.
    """

    batch: int
    seconds: Mapping[Step, np.ndarray]

    def of(self, step: Step, images: int) -> float:
        """Seconds of one step for a group of so many images."""
        return float(self.seconds[step][images])

    def expected(self, step: Step, share: float) -> float:
        """Mean seconds where each image of the batch takes part with probability ``share``, independently."""
        return float(_binomial(self.batch, share) @ self.seconds[step])


def group_sizes(batch: int) -> list[int]:
    """The sizes of groups that are measured: 1, 2, 4, … and the batch."""
    return [*(size for size in (1 << i for i in range(batch.bit_length())) if size < batch), batch]


def table(measured: Mapping[tuple[Step, int], float], steps: Sequence[Step], pyramid: sdvar.ScalePyramid, batch: int,
          padded: bool) -> CostTable:  # fmt: skip
    """The table, from seconds at the sizes of `group_sizes`.

    Passes that were not measured are estimated from those of the same model, by a fit to positions and query-key pairs.

    Args:
        measured: seconds by step and images; whatever is no pass is there at all sizes, or at the batch alone.
        steps: what the table shall hold.
        pyramid: the token maps.
        batch: B.
        padded: whether a group costs what the next measured size does (CUDA graphs), or something between two sizes.
    """
    sizes = group_sizes(batch)
    fits = {model: _Fit(measured, model, pyramid) for model in ("draft", "target")}
    images, seconds = np.arange(1, batch + 1), {}
    for step in steps:
        known = [size for size in sizes if (step, size) in measured or step.op in fits]
        values = [measured[step, size] if (step, size) in measured else fits[step.op](step, size) for size in known]
        rows = np.array([min(size for size in known if size >= n) for n in images]) if padded else images
        seconds[step] = np.concatenate(([0.0], np.interp(rows, known, values)))
    return CostTable(batch, seconds)


class _Fit:
    """Seconds of a pass as a constant, a part that grows with its positions and one with its query-key pairs."""

    def __init__(self, measured: Mapping[tuple[Step, int], float], model: str, pyramid: sdvar.ScalePyramid) -> None:
        self.pyramid = pyramid
        points = [(step, size, seconds) for (step, size), seconds in measured.items() if step.op == model]
        self.least = min((seconds for *_, seconds in points), default=0.0)
        if not points:
            return
        # divided by the seconds: an error of a tenth counts the same in a short pass and in a long one
        rows = np.array([self._terms(step, size) / seconds for step, size, seconds in points])
        self.weights = np.linalg.lstsq(rows, np.ones(len(points)), rcond=None)[0]

    def __call__(self, step: Step, images: int) -> float:
        return max(self.least, float(self._terms(step, images) @ self.weights))

    def _terms(self, step: Step, images: int) -> np.ndarray:
        tokens, offsets = self.pyramid.tokens, self.pyramid.offsets
        pairs = sum(tokens[k] * offsets[k + 1] for k in range(step.first, step.last))
        return np.array([1.0, images * self.pyramid.span_tokens(step.first, step.last), images * pairs])


def _binomial(batch: int, share: float) -> np.ndarray:
    """Probability of each number of images, 0 .. B: float64 (B + 1,)."""
    import torch

    numbers = torch.arange(batch + 1, dtype=torch.float64)
    share = torch.tensor(share, dtype=torch.float64)
    if share in (0, 1):
        return (numbers == batch * share).double().numpy()
    return torch.distributions.Binomial(batch, share).log_prob(numbers).exp().numpy()
