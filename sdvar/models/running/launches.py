"""Whether launching a pass's kernels takes longer than running them: then a CUDA graph gains, and padding is free."""

from __future__ import annotations

import torch

from sdvar.models.protocol import NextScaleModel

LAUNCH_SECONDS = 5e-6
# What products and copies of a large GPU (H100) reach. A smaller one has less to gain from graphs, but loses little.
OPERATIONS_PER_SECOND = {torch.float64: 3e13, torch.float32: 4e13, torch.bfloat16: 4e14, torch.float16: 4e14}
BYTES_PER_SECOND = 2.5e12


def launches_dominate(
    model: NextScaleModel, rows: int, first: int, last: int, visible_from: int = 0, logits_from: int | None = None
) -> bool:
    """Whether they do in such a pass, see `NextScaleModel.forward_span`; True for a model of unknown cost."""
    try:
        costs = model.cost()
    except NotImplementedError:
        return True
    cost = costs.span(rows, first, last, visible_from, logits_from)
    busy = max(cost.bytes / BYTES_PER_SECOND, cost.operations / OPERATIONS_PER_SECOND[model.dtype])
    return costs.launches(first, last) * LAUNCH_SECONDS > busy
