"""What ``gamma="auto"`` stands for: measured on this machine, for a pair, a sampling and a batch size."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sdvar.arguments import check_bool, check_int, check_number, check_share
from sdvar.decoding import check_fit, decode_as_given
from sdvar.decoding.acceptance import Coupled
from sdvar.decoding.schedule import Spans
from sdvar.decoding.strategies.base import Strategy
from sdvar.decoding.strategies.speculative import Speculative
from sdvar.decoding.surroundings import set_aside
from sdvar.decoding.timing import now
from sdvar.decoding.warmup import learn_classes
from sdvar.pair import ModelPair
from sdvar.planning.agreement import SEED_OFFSET, Agreement, measure_agreement, simulated_agreement
from sdvar.planning.candidates import AUTO, BASELINE, KEPT, Candidate, find_candidates, lossy_strategies, with_gamma
from sdvar.planning.comparison import Timed, compare, ratio, speed
from sdvar.planning.inputs import labels_and_seeds
from sdvar.planning.probe import measure_costs
from sdvar.sampling import Sampling

log = logging.getLogger("sdvar.tuning")

NOTHING = Spans((1,))  # drafts nothing
MOST_SECONDS = 15.0
SHARE_OF_RUN = 0.02  # where that is more
SHORT_RUN = 0.1  # of a short run no more than this, as far as it suffices
HALF = 0.5  # of a run too short for that, so that measuring never takes longer than what it could save time of
LEAST_GAIN = 0.02  # of the baseline's time; less is not worth the draft's memory and may be a bias of the measurement
HOPEFUL = 1.05  # expected share of the baseline's time up to which what the model does not cover is measured
NEEDED, AMPLE = 18, 60  # decodes' time that measuring takes at least, and that suffices in a short run
FIRST = 4  # a first decode on a CPU takes less than so many times the time of a later one
TURNS = 4, 100  # of the timing, at least and at most
CALLS = 60  # decodes that a first call of `sdvar.decode` is taken to be followed by
REPLAYED = 8  # batches on which a fixed gamma is replayed
IMAGES = 64  # on which agreement is measured, at most


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        strategy: how to decode. Where speculation does not pay it drafts nothing and is as fast as the baseline.
        reason: in words, without the strategy's name.
        speed, noise: of the best schedule, relative to plain decoding, as `speed` returns them; None where not timed.
        measured: whether there was something to measure, and time for it.
    """

    strategy: Strategy
    reason: str
    speed: float | None = None
    noise: float | None = None
    measured: bool = True

    def __str__(self) -> str:
        """One line."""
        return f"gamma 'auto' is {self.strategy!r}: {self.reason}"


def tune(
    pair: ModelPair,
    sampling: Sampling | None = None,
    batch_size: int = 1,
    *,
    lossless: bool = True,
    max_disagreement: float = 0.3,
    seconds: float = MOST_SECONDS,
) -> Strategy:
    """The fastest way to decode batches of a size with a pair on this machine, as it runs now.

    Costs of passes and the draft's agreement with the target are measured, the best schedules by these are timed beside
    plain decoding, and one is chosen if it gained more than the noise of that and two percent. See docs/planning.md.

    Args:
        pair: the models, on their device, with the engine to plan for.
        sampling: guidance and filters; ``Sampling()`` if None.
        batch_size: images decoded together.
        lossless: whether the images must be the baseline's.
        max_disagreement: otherwise the share of tokens, 0 .. 1, that may differ from the baseline's.
        seconds: time to spend, about. A pair whose decode takes more than an eighteenth of it is not measured.

    Returns:
        A `Speculative` with a schedule; ``Spans((1,))`` drafts nothing, where nothing gained. If not ``lossless`` it
        can also be a `Handoff`, a `Parallel` or ``Baseline("draft")``.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is allowed.
    """
    sampling = Sampling() if sampling is None else sampling
    check_int("batch_size", batch_size, least=1)
    check_bool("lossless", lossless)
    check_share("max_disagreement", max_disagreement)
    check_number("seconds", seconds, lambda x: 0 < x < math.inf, "a number above 0")
    asked = AUTO if lossless else Speculative(max_disagreement=max_disagreement)
    choice = choose(asked, pair, sampling, batch_size, seconds)
    log.info("batch %d: %s", batch_size, choice)
    return choice.strategy


def tuned_key(strategy: Strategy, pair: ModelPair, sampling: Sampling, batch: int) -> Hashable:
    """Where `ModelPair.tuned` keeps what a strategy stands for: another device or dtype has other times."""
    models, inside = (pair.draft, pair.target), pair.draft.guidance_inside
    return strategy, sampling, batch, inside, *((model.device, model.dtype, model.graphs) for model in models)


def resolved(strategy: Strategy, pair: ModelPair, sampling: Sampling, batch: int) -> Strategy:
    """The strategy itself, or what its gamma "auto" stands for: measured once for all that its speed depends on."""
    if not (isinstance(strategy, Speculative) and strategy.auto):
        return strategy
    key = tuned_key(strategy, pair, sampling, batch)
    if key not in pair.tuned:
        choice = choose(strategy, pair, sampling, batch, batches=CALLS)
        pair.tuned[key] = choice.strategy
        log.info("batch %d: %s", batch, choice)
    return pair.tuned[key]


@torch.no_grad()
def choose(
    asked: Speculative,
    pair: ModelPair,
    sampling: Sampling,
    batch: int,
    seconds: float = MOST_SECONDS,
    batches: float = 0,
) -> Choice:
    """Measures and decides.

    Args:
        asked: with gamma "auto"; its rule, ``redraft="target"`` and ``verify_scales`` stay.
        pair, sampling: what decodes.
        batch: images decoded together.
        seconds: time to spend, about, or ``SHARE_OF_RUN`` where that is more.
        batches: decodes of the run, if known: of a short one less time is spent.
    """
    check_fit(asked, sampling, len(pair.pyramid))
    plain, end = with_gamma(asked, NOTHING, asked.verify_scales), asked.verify_scales
    if (len(pair.pyramid) if end is None else end) < 3:  # the first one takes no pass, the last is never drafted
        return Choice(plain, "of fewer than three scales nothing can be drafted", measured=False)
    with set_aside(pair.device):
        started = time.perf_counter()

        def too_long(taken: float) -> bool:
            return NEEDED * taken > allowed_seconds(seconds, taken, batches)

        taken = _plain_seconds(plain, pair, sampling, batch, too_long)
        allowed = allowed_seconds(seconds, taken, batches)
        if too_long(taken):
            words = f"measuring would take about {NEEDED * taken:,.0f} s, {allowed:.2g} s are allowed for it"
            return Choice(plain, words, measured=False)
        seconds = allowed
        candidates = _candidates(asked, pair, sampling, batch, seconds, taken)
        left = seconds - (time.perf_counter() - started)
        hopeful = shortlist(candidates, fitting=int(left / taken / (TURNS[0] + 1)) - 1)
        if not hopeful:
            return Choice(plain, nothing_expected(candidates, batch))
        strategies = {BASELINE: plain} | {one.name: one.strategy for one in hopeful}
        timed = compare(strategies, pair, sampling, batch, left - taken * len(strategies), TURNS)
    return decide(strategies, timed, batch)


def shortlist(candidates: Sequence[Candidate], fitting: int) -> list[Candidate]:
    """Those worth timing: expected to beat plain decoding, or not covered by the model where the best nearly does.

    Args:
        candidates: as `find_candidates` returns them.
        fitting: how many there is time for; at least one is taken.
    """
    plain = next(one.expected for one in candidates if one.name == BASELINE)
    others = [one for one in candidates if one.name != BASELINE]
    hopeful = [one for one in others if one.expected < plain][:KEPT]
    if min(one.expected for one in others) < HOPEFUL * plain:
        hopeful[1:1] = [one for one in others if one.seconds is None]
    return hopeful[: max(1, fitting)]


def nothing_expected(candidates: Sequence[Candidate], batch: int) -> str:
    """Why nothing is drafted although nothing was timed."""
    plain = next(one.expected for one in candidates if one.name == BASELINE)
    best = min((one for one in candidates if one.name != BASELINE), key=lambda one: one.expected)
    expected = f"{plain / best.expected:.2f} times plain decoding's speed at batch {batch}"
    return f"the best schedule, {best.name}, is expected to run at {expected}"


def decide(strategies: dict[str, Strategy], timed: dict[str, Timed], batch: int) -> Choice:
    """The strategy with the surest gain, if it is more than noise and `LEAST_GAIN`; else plain decoding.

    Args:
        strategies: by name, plain decoding too.
        timed: what was measured of each.
        batch: images decoded together.
    """
    ratios = {name: ratio(one, timed[BASELINE]) for name, one in timed.items() if name != BASELINE}
    best = min(ratios, key=lambda name: sum(ratios[name]))
    share, noise = ratios[best]
    of_speed = speed(timed[best], timed[BASELINE])
    words = "{:.2f} ± {:.2f} times plain decoding's speed at batch {}".format(*of_speed, batch)
    if share + noise > 1 - LEAST_GAIN:
        return Choice(strategies[BASELINE], f"the best schedule, {best}, ran at {words}", *of_speed)
    differing = float(np.mean(timed[best].differing))
    lossy = "" if strategies[best].lossless else f", {differing:.2f} of the tokens differ"
    return Choice(strategies[best], words + lossy, *of_speed)


def drafts_nothing(strategy: Strategy) -> bool:
    """Whether a choice is plain decoding, since no speculation paid."""
    return isinstance(strategy, Speculative) and strategy.gamma == NOTHING


def allowed_seconds(seconds: float, taken: float, batches: float) -> float:
    """Seconds to spend on measuring.

    Args:
        seconds: the most for a run that is not long.
        taken: by a plain decode.
        batches: decodes of the run; 0 if unknown.
    """
    most = max(seconds, SHARE_OF_RUN * batches * taken)
    return min(most, taken * min(max(AMPLE, SHORT_RUN * batches), HALF * batches)) if batches else most


def _plain_seconds(
    plain: Speculative, pair: ModelPair, sampling: Sampling, batch: int, too_long: Callable[[float], bool]
) -> float:
    """Seconds of the fastest of three plain decodes: the first run takes longer, and others may have been disturbed.

    On a CPU the first alone, where even a `FIRST`-th of it is too long: the others would take as long as a small run.
    """
    taken: list[float] = []
    for repeat in range(3):
        inputs = labels_and_seeds(batch, repeat, pair.num_classes, pair.device)
        learn_classes(inputs[0], [pair.target], sampling)
        started = now(pair.device)
        decode_as_given(pair, *inputs, plain, sampling, images=False)
        taken.append(now(pair.device) - started)
        if pair.device.type == "cpu" and too_long(taken[0] / FIRST):
            break
    return min(taken)


def _candidates(
    asked: Speculative, pair: ModelPair, sampling: Sampling, batch: int, seconds: float, taken: float
) -> list[Candidate]:
    """Measures costs and agreement, in about half of the time."""
    scales = len(pair.pyramid)
    lossy = lossy_strategies(scales) if asked.max_disagreement else []
    costs = measure_costs(pair, sampling, batch, 0.3 * seconds, handoffs=bool(lossy))
    images = max(8, min(IMAGES, int(0.1 * seconds / taken / (1 + len(lossy) / 2) * batch)))
    if isinstance(asked.acceptance, Coupled):
        agreement = measure_agreement(pair, sampling, images, min(batch, images), lossy)
    else:
        agreement = _accepted_by_the_rule(asked, pair, sampling, images)
    return find_candidates(agreement, costs, pair.pyramid, asked, REPLAYED)


def _accepted_by_the_rule(asked: Speculative, pair: ModelPair, sampling: Sampling, images: int) -> Agreement:
    """How often each scale is accepted under another rule than `Coupled`.

    What that accepts depends on what was committed before, so that the rates, taken as independent, are approximate.
    """
    labels, seeds = labels_and_seeds(images, 0, pair.num_classes, pair.device)
    everything = with_gamma(asked, len(pair.pyramid), asked.verify_scales)
    stats = decode_as_given(pair, labels, seeds + SEED_OFFSET, everything, sampling, images=False).stats
    rates = (stats.accepted_scales / stats.drafted_scales.clamp(min=1)).tolist()
    return simulated_agreement(rates, 256)
