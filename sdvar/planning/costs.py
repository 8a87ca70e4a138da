"""The steps of a decode, and a table of how long each takes for groups of each size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from sdvar.pyramid import ScalePyramid


class Step(NamedTuple):
    """A piece of work on the scales first <= k < last of a group of images.

    Attributes:
        op: "draft" or "target", a pass of that model; "begin_draft" or "begin_target", its class prefixes; "noise", the
            random numbers of all scales; "propose", the draft's pick and the input that follows from it; "settle", the
            target's pick, the rule and the commit of a drafted scale, always as one whose f-hat is made again, which
            the commit of an accepted one saves; "commit", a pick and the commit of a scale that no rule judges.
        first, last: the scales; none for what runs once per decode.
        wanted: of a pass, the first scale whose logits are made.
    """

    op: str
    first: int = 0
    last: int = 0
    wanted: int = 0


BEGIN_DRAFT, BEGIN_TARGET, NOISE = Step("begin_draft"), Step("begin_target"), Step("noise")
ONCE = (BEGIN_DRAFT, BEGIN_TARGET, NOISE)  # per decode, for the whole batch


def draft_pass(cached: int, scale: int) -> Step:
    """The draft's logits of one scale, with all that its cache lacks read in the same pass."""
    return Step("draft", cached, scale + 1, scale)


def target_pass(first: int, last: int, wanted: int | None = None) -> Step:
    """The target's logits of the scales from ``wanted`` on, by default of all that it reads."""
    return Step("target", first, last, first if wanted is None else wanted)


def at(op: str, scale: int) -> Step:
    """Work on one scale other than a pass."""
    return Step(op, scale, scale + 1, scale)


def every_step(scales: int, handoffs: bool) -> list[Step]:
    """All steps that rounds and draft tails over ``scales`` scales can consist of, and a hand-off to the target."""
    cuts = [(first, last) for first in range(1, scales) for last in range(first + 1, scales + 1)]
    drafted = range(1, scales - 1)
    return [
        *ONCE,
        *(draft_pass(first, last - 1) for first, last in cuts),
        *(target_pass(first, last) for first, last in cuts),
        *(target_pass(1, entry + 1, entry) for entry in range(1, scales) if handoffs),
        *(at("commit", scale) for scale in range(scales)),
        *(at(op, scale) for op in ("propose", "settle") for scale in drafted),
    ]


@dataclass(frozen=True)
class CostTable:
    """Seconds of every step.

    Attributes:
        batch: images of a decode, B.
        seconds: for each step float64 (B + 1,), by the number of images; 0 for none.
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


def cost_table(
    measured: Mapping[tuple[Step, int], float], steps: Sequence[Step], pyramid: ScalePyramid, batch: int,
    padded: bool, guided_scales: Mapping[str, int] | None = None,
) -> CostTable:  # fmt: skip
    """The table, from seconds at the sizes of `group_sizes`.

    Passes that were not measured are estimated from those of the same model, by a fit to positions and query-key pairs,
    of both guidance branches where both run.

    Args:
        measured: seconds by step and images. Passes may be missing; other steps are there at all sizes, or at the
            batch alone.
        steps: those of the table.
        pyramid: the token maps.
        batch: B.
        padded: whether a group costs what the next measured size does (CUDA graphs), or something between two sizes.
        guided_scales: by model, see `NextScaleModel.guided_scales`; its passes that want no logits before this scale
            run one branch.
    """
    sizes = group_sizes(batch)
    fits = {model: _fit(measured, model, pyramid, (guided_scales or {}).get(model, 0)) for model in ("draft", "target")}
    images, seconds = np.arange(1, batch + 1), {}
    for step in steps:
        known = [size for size in sizes if (step, size) in measured or step.op in fits]
        values = [measured[step, size] if (step, size) in measured else fits[step.op](step, size) for size in known]
        rows = np.array([min(size for size in known if size >= n) for n in images]) if padded else images
        seconds[step] = np.concatenate(([0.0], np.interp(rows, known, values)))
    return CostTable(batch, seconds)


def _fit(
    measured: Mapping[tuple[Step, int], float], model: str, pyramid: ScalePyramid, guided_scales: int
) -> Callable[[Step, int], float]:
    """Seconds of a pass as a constant, a part that grows with its positions and one with its query-key pairs."""

    def terms(step: Step, images: int) -> np.ndarray:
        pairs = sum(pyramid.tokens[k] * pyramid.offsets[k + 1] for k in range(step.first, step.last))
        rows = images * (2 if step.wanted < guided_scales else 1)
        return np.array([1.0, rows * pyramid.span_tokens(step.first, step.last), rows * pairs])

    points = [(terms(*point), seconds) for point, seconds in measured.items() if point[0].op == model]
    # relative errors: a tenth counts the same in a short pass and in a long one
    rows = np.array([row / seconds for row, seconds in points])
    weights = np.linalg.lstsq(rows, np.ones(len(points)), rcond=None)[0]
    least = min(seconds for _, seconds in points)
    return lambda step, images: max(least, float(terms(step, images) @ weights))


def _binomial(batch: int, share: float) -> np.ndarray:
    """Probability of each number of images, 0 .. B: float64 (B + 1,)."""
    numbers = torch.arange(batch + 1, dtype=torch.float64)
    if share in (0, 1):
        return (numbers == batch * share).double().numpy()
    return torch.distributions.Binomial(batch, torch.tensor(share, dtype=torch.float64)).log_prob(numbers).exp().numpy()
