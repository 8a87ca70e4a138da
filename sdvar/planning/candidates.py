"""The strategies that a plan is chosen from, with the time that each is expected to take."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from sdvar.decoding.schedule import Fixed, Schedule, Spans
from sdvar.decoding.strategies.base import Strategy
from sdvar.decoding.strategies.baseline import Baseline
from sdvar.decoding.strategies.handoff import Handoff
from sdvar.decoding.strategies.parallel import Parallel
from sdvar.decoding.strategies.speculative import Speculative
from sdvar.planning.agreement import Agreement
from sdvar.planning.costs import CostTable
from sdvar.planning.expected import SpanModel
from sdvar.planning.replay import mean_seconds
from sdvar.pyramid import ScalePyramid

KEPT = 3  # schedules to measure, the fastest by the model
DRAWN = 64  # batches on which a fixed gamma is replayed
AUTO = Speculative()
BASELINE = "baseline"  # name of plain decoding


@dataclass(frozen=True)
class Candidate:
    """A strategy and what is expected of it.

    Attributes:
        name: valid as an arm's name.
        strategy: how it decodes.
        seconds: expected per batch, without the tokenizer; None where the model does not cover the strategy.
        differing: expected share of tokens that differ from the baseline's; 0 for lossless ones.
    """

    name: str
    strategy: Strategy
    seconds: float | None
    differing: float = 0.0

    @property
    def expected(self) -> float:
        """The seconds, infinite where none are expected; to sort by."""
        return math.inf if self.seconds is None else self.seconds

    @property
    def plain(self) -> bool:
        """Whether it is the baseline itself."""
        return self.strategy == Baseline()

    @property
    def fixed(self) -> bool:
        """Whether it drafts the same number of scales in every round."""
        return isinstance(self.strategy, Speculative) and isinstance(self.strategy.schedule, Fixed)


def with_gamma(asked: Speculative, gamma: int | Schedule, verify_scales: int | None) -> Speculative:
    """What was asked for, with a schedule and the scales to verify."""
    return dataclasses.replace(asked, gamma=gamma, verify_scales=verify_scales, max_disagreement=0.0)


def lossy_strategies(scales: int) -> list[Strategy]:
    """The lossy strategies that are searched.

    The draft alone for the last scales, or for the first ones; the last scales in one pass of the target, or in pairs.
    """
    return [
        *(spans_strategy((1,) * end, scales) for end in range(scales)),
        *(Handoff(entry, first="draft") for entry in range(1, scales)),
        *(Parallel((*(1,) * first, scales - first)) for first in range(1, scales - 1)),
        *(Parallel((*(1,) * first, 2)) for first in range(1, scales - 2)),
    ]


def spans_strategy(spans: tuple[int, ...], scales: int, asked: Speculative = AUTO) -> Strategy:
    """The strategy that verifies the first scales in these spans; the draft does the others.

    Without a span of more than one scale nothing is drafted: that is a hand-off, or plain decoding.

    Args:
        spans: numbers of scales.
        scales: K.
        asked: supplies the rule and where drafts come from.
    """
    end = sum(spans)
    if max(spans, default=1) > 1:
        return with_gamma(asked, Spans(spans), None if end == scales else end)
    if end == scales:
        return Baseline()
    return Handoff(end, first="target") if end else Baseline("draft")


def find_candidates(
    agreement: Agreement, costs: CostTable, pyramid: ScalePyramid, asked: Speculative = AUTO, batches: int = DRAWN
) -> list[Candidate]:
    """The baseline, every fixed gamma, and the fastest by the model that differ by no more than allowed.

    With ``verify_scales`` asked for, the baseline is the target up to that scale and the draft from there on.

    Args:
        agreement: of the pair; with the shares of ``lossy_strategies`` where ``max_disagreement`` is above 0.
        costs: of the machine.
        pyramid: the token maps.
        asked: the rule, and the share of tokens that may differ from the baseline's.
        batches: on which a fixed gamma is replayed.

    Returns:
        What to measure, the fastest by the model first. At least one of them drafts.
    """
    model, scales = SpanModel(agreement.accepted, costs), len(pyramid)
    end = scales if asked.verify_scales is None else asked.verify_scales
    baseline = spans_strategy((1,) * end, scales)
    shares = {baseline: 0.0} | agreement.differing
    allowed = {strategy: share for strategy, share in shares.items() if share <= asked.max_disagreement}
    found: list[Candidate] = []
    for stop in range(scales + 1):
        plain = spans_strategy((1,) * stop, scales)
        for seconds, spans in model.search(stop, KEPT + 1) if plain in allowed else ():
            strategy = spans_strategy(spans, scales, asked)
            found.append(Candidate(_name(strategy), strategy, seconds, allowed[plain]))
    for entry in range(1, scales):
        handoff = Handoff(entry, first="draft")
        if handoff in allowed:
            found.append(Candidate(_name(handoff), handoff, model.handoff_seconds(entry), allowed[handoff]))
    for strategy in allowed:
        if isinstance(strategy, Parallel):
            seconds = model.parallel_seconds(strategy)
            found.append(Candidate(_name(strategy), strategy, seconds, allowed[strategy]))
    found = sorted((one for one in found if one.strategy != baseline), key=lambda one: one.expected)[:KEPT]
    for gamma in range(1, max(2, end - 1)):
        fixed = with_gamma(asked, gamma, asked.verify_scales)
        seconds = mean_seconds(fixed, agreement.accepted, pyramid, costs, batches)
        found.append(Candidate(f"fixed_{gamma}", fixed, seconds))
    found.append(Candidate(BASELINE, baseline, model.seconds((1,) * end)))
    found.sort(key=lambda one: one.expected)
    return found + ([] if asked.acceptance.needs_draft_distribution else _reusing(found))


def _reusing(modelled: list[Candidate]) -> list[Candidate]:
    """The first schedule of spans in which a round can draft picks of the target, doing so.

    How often they are accepted does not follow from the record of the draft, so it is only measured.
    """
    for one in modelled:
        strategy = one.strategy
        if not (isinstance(strategy, Speculative) and isinstance(strategy.gamma, Spans)):
            continue
        # of shorter spans nothing is left after a rejection
        if max(strategy.gamma.scales) > 2 and strategy.redraft == "draft":
            reusing = dataclasses.replace(strategy, redraft="target")
            return [Candidate(f"{one.name}_reuse", reusing, None, one.differing)]
    return []


def _name(strategy: Strategy) -> str:
    """Short, of characters that an arm's name may have."""
    if isinstance(strategy, Speculative) and isinstance(strategy.gamma, Spans):
        spans = "spans_" + "_".join(map(str, strategy.gamma.scales))
        return spans if strategy.verify_scales is None else f"{spans}_then_draft"
    if isinstance(strategy, Parallel):
        return "parallel_" + "_".join(map(str, strategy.spans))
    if isinstance(strategy, Handoff):
        return f"{strategy.first}_{strategy.entry}_then_{'target' if strategy.first == 'draft' else 'draft'}"
    return "baseline" if strategy == Baseline() else "draft_alone"
