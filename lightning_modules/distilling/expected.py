"""What a trained draft is worth on this machine, by the planner's cost table."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_modules.distilling.role import TAIL, Role
from sdvar.decoding.handoff import Handoff
from sdvar.decoding.speculative import Speculative
from sdvar.pair import ModelPair
from sdvar.planning.agreement import Agreement, measure_agreement
from sdvar.planning.candidates import spans_strategy
from sdvar.planning.costs import CostTable
from sdvar.planning.expected import SpanModel
from sdvar.planning.probe import measure_costs
from sdvar.planning.replay import Replay
from sdvar.sampling import Sampling

BATCHES = (1, 64)
IMAGES, TOGETHER = 64, 32


def expected(pair: ModelPair, sampling: Sampling, role: Role, seconds: float) -> dict[str, Any]:
    """Target calls per image and speed over the baseline, at batch 1 and 64.

    A tail is expected to decode its scales after the target's, any other draft to be verified in the spans that are
    fastest.

    Args:
        pair: with the draft.
        sampling: what decodes.
        role: of the draft.
        seconds: to measure the costs of one batch size.

    Returns:
        By "batch_1" and "batch_64"; and of a tail "differing", the share of all tokens that are not the baseline's.
    """
    tail = [Handoff(role.first, first="target")] if role.name == TAIL else []
    agreement = measure_agreement(pair, sampling, IMAGES, TOGETHER, tail)
    found: dict[str, Any] = {"differing": agreement.differing[tail[0]]} if tail else {}
    for batch in BATCHES:
        costs = measure_costs(pair, sampling, batch, seconds)
        found[f"batch_{batch}"] = _at(agreement, costs, role, pair)
    return found


def _at(agreement: Agreement, costs: CostTable, role: Role, pair: ModelPair) -> dict[str, Any]:
    accepted = agreement.accepted.copy()
    accepted[:, role.last :] = False  # a coarse draft is trained on no more
    model, scales = SpanModel(accepted, costs), len(pair.pyramid)
    plain = model.seconds((1,) * scales)
    if role.name == TAIL:
        seconds, calls = model.seconds((1,) * role.first), float(role.first - 1)
        strategy = spans_strategy((1,) * role.first, scales)
    else:
        seconds, spans = model.search(scales, 1)[0]
        strategy = spans_strategy(spans, scales)
        calls = float(scales - 1)
        if isinstance(strategy, Speculative):
            calls = float(np.mean([_calls(strategy, row[None], pair) for row in accepted]))
    return {"strategy": repr(strategy), "target_calls": calls, "speed": plain / seconds}


def _calls(strategy: Speculative, accepted: np.ndarray, pair: ModelPair) -> int:
    return sum(images for step, images in Replay(strategy, accepted, pair.pyramid).steps if step.op == "target")
