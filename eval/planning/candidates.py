"""The strategies that a plan is chosen from, with the time that each is expected to take."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import sdvar
from eval.planning.agreement import Agreement
from eval.planning.costs import CostTable
from eval.planning.expected import SpanModel
from eval.planning.replay import mean_seconds

KEPT = 3  # of the schedules that the model finds fastest, so many are measured
DRAWN = 64  # batches that a fixed gamma is replayed on


@dataclass(frozen=True)
class Candidate:
    """A strategy and what is expected of it.

    Attributes:
        name: as arms are called.
        strategy: how it decodes.
        seconds: expected time of a batch, without the tokenizer; None where the model has no answer.
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


def lossy_strategies(scales: int) -> list[sdvar.Strategy]:
    """Those of which the share of tokens that differ is measured: draft tails and a draft's layout."""
    return [
        *(spans_strategy((1,) * end, scales) for end in range(scales)),
        *(sdvar.Handoff(entry, first="draft") for entry in range(1, scales)),
    ]


def spans_strategy(spans: tuple[int, ...], scales: int) -> sdvar.Strategy:
    """The strategy that a way to cut the first scales into spans stands for; the draft does the others.

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
    """The baseline, every fixed gamma, and the fastest ones by the model that differ by no more than allowed.

    Args:
        agreement: of the pair; with what ``lossy_strategies`` gives where ``max_disagreement`` is above 0.
        costs: of the machine.
        pyramid: the token maps.
        max_disagreement: share of tokens that may differ from the baseline's.

    Returns:
        All that should be measured, the fastest by the model first. At least one of them drafts.
    """
    model, scales = SpanModel(agreement.accepted, costs), len(pyramid)
    found: list[Candidate] = []
    for end in range(scales + 1):
        lossless = end == scales
        differing = 0.0 if lossless else agreement.differing.get(spans_strategy((1,) * end, scales), 1.0)
        if lossless or (max_disagreement > 0 and differing <= max_disagreement):
            for seconds, spans in model.search(end, KEPT + 1):
                strategy = spans_strategy(spans, scales)
                found.append(Candidate(_name(strategy), strategy, seconds, differing))
    for entry in range(1, scales):
        strategy = sdvar.Handoff(entry, first="draft")
        if max_disagreement > 0 and agreement.differing.get(strategy, 1.0) <= max_disagreement:
            seconds = model.handoff_seconds(entry)
            found.append(Candidate(_name(strategy), strategy, seconds, agreement.differing[strategy]))
    best = sorted((one for one in found if not one.plain), key=lambda one: one.seconds)[:KEPT]
    baseline = Candidate("baseline", sdvar.Baseline(), model.seconds((1,) * scales))
    modelled = sorted([*best, *_fixed(agreement, costs, pyramid), baseline], key=lambda one: one.seconds)
    return modelled + _reusing(modelled)


def _fixed(agreement: Agreement, costs: CostTable, pyramid: sdvar.ScalePyramid) -> list[Candidate]:
    strategies = [sdvar.Speculative(gamma) for gamma in range(1, len(pyramid))]
    return [
        Candidate(f"fixed_{one.gamma}", one, mean_seconds(one, agreement.accepted, pyramid, costs, DRAWN))
        for one in strategies
    ]


def _reusing(modelled: list[Candidate]) -> list[Candidate]:
    """The first schedule of spans with a round that can begin with picks of the target, and drafts these then.

    How often they stand does not follow from what is recorded of the draft, so this one is only measured.
    """
    spans = [one for one in modelled if isinstance(getattr(one.strategy, "gamma", None), sdvar.Spans)]
    for one in spans:
        if max(one.strategy.gamma.scales) > 2:  # shorter ones have nothing left to draft after a scale that fell
            reusing = dataclasses.replace(one.strategy, redraft="target")
            return [Candidate(f"{one.name}_reuse", reusing, None, one.differing)]
    return []


def _name(strategy: sdvar.Strategy) -> str:
    """Short, of the letters that an arm's name may have."""
    if isinstance(strategy, sdvar.Speculative):
        spans = "spans_" + "_".join(map(str, strategy.gamma.scales))
        return spans if strategy.verify_scales is None else f"{spans}_then_draft"
    if isinstance(strategy, sdvar.Handoff):
        return f"{strategy.first}_{strategy.entry}_then_{'target' if strategy.first == 'draft' else 'draft'}"
    return "baseline" if strategy.model == "target" else "draft_alone"
