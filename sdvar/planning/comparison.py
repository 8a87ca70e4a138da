"""Times the candidates side by side, and chooses among them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from sdvar.decoding import decode_as_given
from sdvar.decoding.compare import first_differences
from sdvar.decoding.result import DecodeResult
from sdvar.decoding.strategies.base import Strategy
from sdvar.decoding.timing import now
from sdvar.decoding.warmup import learn_classes, warm_up
from sdvar.models.running.cuda_graphs import no_captures
from sdvar.pair import ModelPair
from sdvar.planning.agreement import share_differing
from sdvar.planning.inputs import labels_and_seeds, rotated
from sdvar.sampling import Sampling

log = logging.getLogger("sdvar.planning")

TURNS = 5, 200  # at least, at most


@dataclass
class Timed:
    """What was measured of one strategy.

    Attributes:
        seconds: of each turn, without the tokenizer; all strategies have the same turns.
        target_calls: passes of the target per image, mean of each turn.
        differing: share of tokens other than the baseline's, of each image.
        score_gaps: of images that differ under an exact strategy: by how much the pick was decided, see
            `sdvar.first_differences`.
    """

    seconds: list[float] = field(default_factory=list)
    target_calls: list[float] = field(default_factory=list)
    differing: list[float] = field(default_factory=list)
    score_gaps: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))


def compare(
    strategies: Mapping[str, Strategy], pair: ModelPair, sampling: Sampling, batch: int,
    seconds: float, turns: tuple[int, int] = TURNS,
) -> dict[str, Timed]:  # fmt: skip
    """Decodes with all strategies in turns, whose order rotates, while time remains; each turn has its own seeds.

    Args:
        strategies: by name; one is called "baseline".
        pair, sampling, batch: what decodes, and how many images at once.
        seconds: the time to spend.
        turns: how many are made whatever they take, and at most.
    """
    timed = {name: Timed() for name in strategies}

    def inputs(number: int) -> tuple[Tensor, Tensor]:
        return labels_and_seeds(batch, number, pair.num_classes, pair.device)

    def run(strategy: Strategy, batch_inputs: tuple[Tensor, Tensor]) -> DecodeResult:
        return decode_as_given(pair, *batch_inputs, strategy, sampling, images=False)

    for strategy in strategies.values():
        warm_up(lambda number: run(strategy, inputs(number)), (pair.draft, pair.target))  # noqa: B023
    started = time.perf_counter()
    least, most = turns
    for turn in range(most):
        if turn >= least and time.perf_counter() - started > seconds:
            break
        of_turn, results = inputs(turn), {}
        learn_classes(of_turn[0], (pair.draft, pair.target), sampling)
        for name in rotated(list(strategies), turn):
            begun = now(pair.device)
            with no_captures():
                results[name] = run(strategies[name], of_turn)
            timed[name].seconds.append(now(pair.device) - begun)
        for name, result in results.items():
            timed[name].target_calls.append(result.stats.target_calls.double().mean().item())
            shares = share_differing(results["baseline"].tokens, result.tokens)
            timed[name].differing += shares.tolist()
            if strategies[name].exact and shares.any():
                tokens = result.tokens, results["baseline"].tokens
                gaps = first_differences(pair, *of_turn, sampling, *tokens)
                timed[name].score_gaps += gaps[~gaps.isnan()].tolist()
    log.info("measured: %d turns of %d strategies", len(timed["baseline"].seconds), len(strategies))
    return timed


def ratio(one: Timed, other: Timed) -> tuple[float, float]:
    """Median over turns of the first one's time over the second's, and twice its standard error."""
    ratios = np.divide(one.seconds, other.seconds)
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    spread = (high - low) / 1.349  # the standard deviation, if the ratios are normal
    return float(middle), float(2 * 1.2533 * spread / math.sqrt(len(ratios)))


def speed(one: Timed, other: Timed) -> tuple[float, float]:
    """The first one's speed relative to the second's: median over turns, and twice its standard error."""
    return ratio(other, one)


def faster(one: Timed, other: Timed) -> bool:
    """Whether the first took less time than the second by more than the noise of this measurement."""
    middle, noise = ratio(one, other)
    return middle + noise < 1


def choose(names: Sequence[str], timed: Mapping[str, Timed]) -> str:
    """The strategy to recommend.

    Args:
        names: the fastest by the model first; "baseline" is among them.
        timed: what was measured of each.

    Returns:
        Of those that gained on the baseline the model's first, unless others were faster than that one by more than
        noise: then the fastest of these. The baseline if none gained. Gaining is to take less time in the median, and
        for what the model did not expect to gain, less by more than noise.
    """
    plain = timed["baseline"]
    expected = names[: names.index("baseline")]
    gaining = [name for name in expected if ratio(timed[name], plain)[0] < 1]
    gaining += [name for name in names[len(expected) :] if faster(timed[name], plain)]
    if not gaining:
        return "baseline"
    better = [name for name in gaining if faster(timed[name], timed[gaining[0]])]
    return min(better, key=lambda name: timed[name].median, default=gaining[0])
