"""The strategies that a plan is chosen from, with the time that each is expected to take."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from sdvar.decoding.baseline import Baseline
from sdvar.decoding.handoff import Handoff
from sdvar.decoding.schedule import Fixed, Spans
from sdvar.decoding.speculative import Speculative
from sdvar.decoding.strategy import Strategy
from sdvar.planning.agreement import Agreement
from sdvar.planning.costs import CostTable
from sdvar.planning.expected import SpanModel
from sdvar.planning.replay import mean_seconds
from sdvar.pyramid import ScalePyramid

KEPT = 3  # schedules to measure, the fastest by the model
DRAWN = 64  # batches on which a fixed gamma is replayed


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


def lossy_strategies(scales: int) -> list[Strategy]:
    """The lossy strategies that are searched: the draft alone for the last scales, or for the first ones."""
    return [
        *(spans_strategy((1,) * end, scales) for end in range(scales)),
        *(Handoff(entry, first="draft") for entry in range(1, scales)),
    ]


def spans_strategy(spans: tuple[int, ...], scales: int) -> Strategy:
    """The strategy that verifies the first scales in these spans; the draft does the others.

    Without a span of more than one scale nothing is drafted: that is a hand-off, or plain decoding.
    """
    end = sum(spans)
    if max(spans, default=1) > 1:
        return Speculative(Spans(spans), verify_scales=None if end == scales else end)
    if end == scales:
        return Baseline()
    return Handoff(end, first="target") if end else Baseline("draft")


def find_candidates(
    agreement: Agreement, costs: CostTable, pyramid: ScalePyramid, max_disagreement: float
) -> list[Candidate]:
    """The baseline, every fixed gamma, and the fastest by the model that differ by no more than allowed.

    Args:
        agreement: of the pair; with the shares of ``lossy_strategies`` where ``max_disagreement`` is above 0.
        costs: of the machine.
        pyramid: the token maps.
        max_disagreement: share of tokens that may differ from the baseline's.

    Returns:
        What to measure, the fastest by the model first. At least one of them drafts.
    """
    model, scales = SpanModel(agreement.accepted, costs), len(pyramid)
    shares = {Baseline(): 0.0} | agreement.differing
    allowed = {strategy: share for strategy, share in shares.items() if share <= max_disagreement}
    found: list[Candidate] = []
    for end in range(scales + 1):
        plain = spans_strategy((1,) * end, scales)
        for seconds, spans in model.search(end, KEPT + 1) if plain in allowed else ():
            strategy = spans_strategy(spans, scales)
            found.append(Candidate(_name(strategy), strategy, seconds, allowed[plain]))
    for entry in range(1, scales):
        handoff = Handoff(entry, first="draft")
        if handoff in allowed:
            found.append(Candidate(_name(handoff), handoff, model.handoff_seconds(entry), allowed[handoff]))
    found = sorted((one for one in found if not one.plain), key=lambda one: one.expected)[:KEPT]
    for gamma in range(1, scales):
        fixed = Speculative(gamma)
        seconds = mean_seconds(fixed, agreement.accepted, pyramid, costs, DRAWN)
        found.append(Candidate(f"fixed_{gamma}", fixed, seconds))
    found.append(Candidate("baseline", Baseline(), model.seconds((1,) * scales)))
    found.sort(key=lambda one: one.expected)
    return found + _reusing(found)


def _reusing(modelled: list[Candidate]) -> list[Candidate]:
    """The first schedule of spans in which a round can draft picks of the target, doing so.

    How often they are accepted does not follow from the record of the draft, so it is only measured.
    """
    for one in modelled:
        strategy = one.strategy
        if not (isinstance(strategy, Speculative) and isinstance(strategy.gamma, Spans)):
            continue
        if max(strategy.gamma.scales) > 2:  # of shorter ones nothing is left after a rejection
            reusing = dataclasses.replace(strategy, redraft="target")
            return [Candidate(f"{one.name}_reuse", reusing, None, one.differing)]
    return []


def _name(strategy: Strategy) -> str:
    """Short, of characters that an arm's name may have."""
    if isinstance(strategy, Speculative) and isinstance(strategy.gamma, Spans):
        spans = "spans_" + "_".join(map(str, strategy.gamma.scales))
        return spans if strategy.verify_scales is None else f"{spans}_then_draft"
    if isinstance(strategy, Handoff):
        return f"{strategy.first}_{strategy.entry}_then_{'target' if strategy.first == 'draft' else 'draft'}"
    return "baseline" if strategy == Baseline() else "draft_alone"
