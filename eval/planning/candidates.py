"""The strategies that a plan is chosen from, with the time that each is expected to take."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import sdvar
from eval.planning.agreement import Agreement
from eval.planning.costs import CostTable
from eval.planning.expected import SpanModel
from eval.planning.replay import mean_seconds

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
    strategy: sdvar.Strategy
    seconds: float | None
    differing: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether it is the baseline itself."""
        return self.strategy == sdvar.Baseline()

    @property
    def fixed(self) -> bool:
        """Whether it drafts the same number of scales in every round."""
        return isinstance(self.strategy, sdvar.Speculative) and isinstance(self.strategy.schedule, sdvar.Fixed)


def lossy_strategies(scales: int) -> list[sdvar.Strategy]:
    """The lossy strategies that are searched: the draft alone for the last scales, or for the first ones."""
    return [
        *(spans_strategy((1,) * end, scales) for end in range(scales)),
        *(sdvar.Handoff(entry, first="draft") for entry in range(1, scales)),
    ]


def spans_strategy(spans: tuple[int, ...], scales: int) -> sdvar.Strategy:
    """The strategy that verifies the first scales in these spans; the draft does the others.

    Without a span of more than one scale nothing is drafted: that is a hand-off, or plain decoding.
    """
    end = sum(spans)
    if max(spans, default=1) > 1:
        return sdvar.Speculative(sdvar.Spans(spans), verify_scales=None if end == scales else end)
    if end == scales:
        return sdvar.Baseline()
    return sdvar.Handoff(end, first="target") if end else sdvar.Baseline("draft")


def find_candidates(
    agreement: Agreement, costs: CostTable, pyramid: sdvar.ScalePyramid, max_disagreement: float
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
    shares = {sdvar.Baseline(): 0.0} | agreement.differing
    allowed = {strategy: share for strategy, share in shares.items() if share <= max_disagreement}
    found: list[Candidate] = []
    for end in range(scales + 1):
        plain = spans_strategy((1,) * end, scales)
        for seconds, spans in model.search(end, KEPT + 1) if plain in allowed else ():
            strategy = spans_strategy(spans, scales)
            found.append(Candidate(_name(strategy), strategy, seconds, allowed[plain]))
    for entry in range(1, scales):
        strategy = sdvar.Handoff(entry, first="draft")
        if strategy in allowed:
            found.append(Candidate(_name(strategy), strategy, model.handoff_seconds(entry), allowed[strategy]))
    found = sorted((one for one in found if not one.plain), key=lambda one: one.seconds)[:KEPT]
    for gamma in range(1, scales):
        strategy = sdvar.Speculative(gamma)
        seconds = mean_seconds(strategy, agreement.accepted, pyramid, costs, DRAWN)
        found.append(Candidate(f"fixed_{gamma}", strategy, seconds))
    found.append(Candidate("baseline", sdvar.Baseline(), model.seconds((1,) * scales)))
    found.sort(key=lambda one: one.seconds)
    return found + _reusing(found)


def _reusing(modelled: list[Candidate]) -> list[Candidate]:
    """The first schedule of spans in which a round can draft picks of the target, doing so.

    How often they are accepted does not follow from the record of the draft, so it is only measured.
    """
    for one in modelled:
        spans = getattr(one.strategy, "gamma", None)
        if isinstance(spans, sdvar.Spans) and max(spans.scales) > 2:  # shorter ones have nothing left after a rejection
            reusing = dataclasses.replace(one.strategy, redraft="target")
            return [Candidate(f"{one.name}_reuse", reusing, None, one.differing)]
    return []


def _name(strategy: sdvar.Strategy) -> str:
    """Short, of characters that an arm's name may have."""
    if isinstance(strategy, sdvar.Speculative):
        spans = "spans_" + "_".join(map(str, strategy.gamma.scales))
        return spans if strategy.verify_scales is None else f"{spans}_then_draft"
    if isinstance(strategy, sdvar.Handoff):
        return f"{strategy.first}_{strategy.entry}_then_{'target' if strategy.first == 'draft' else 'draft'}"
    return "baseline" if strategy.model == "target" else "draft_alone"
