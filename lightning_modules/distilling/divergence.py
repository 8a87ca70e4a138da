"""How far a draft's distribution is from the target's, where decoding compares them."""

from __future__ import annotations

import math

from torch import Tensor

from sdvar.sampling import Sampling


def divergence(target: Tensor, draft: Tensor, sampling: Sampling) -> Tensor:
    """KL(target ‖ draft) of the distributions that tokens are picked from.

    The target's is filtered already: a second time top-p would drop more. The draft's covers what its own filters or
    the target's keep: a token that both drop is never picked, and one that only the draft drops still has a gradient.
    It is 0 where both have the same logits.

    Args:
        target: guided and filtered logits, (..., V).
        draft: guided logits, (..., V).
        sampling: the filters.

    Returns:
        (...), in nats.
    """
    kept = target.isfinite() | sampling.filtered(draft.detach()).isfinite()
    log_p = target.log_softmax(-1)
    log_q = draft.masked_fill(~kept, -math.inf).log_softmax(-1)
    gap = log_p.masked_fill(log_p == -math.inf, 0) - log_q.masked_fill(~kept, 0)
    return (log_p.exp() * gap).sum(-1)
