"""How far apart two decodes of the same seeds are: is a difference a near-tie of floating point, or an error?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sdvar.decoding import check_batch
from sdvar.decoding.state import DecodeState
from sdvar.decoding.surroundings import set_aside
from sdvar.models.running.cuda_graphs import no_captures
from sdvar.pair import ModelPair
from sdvar.sampling import Sampling

NEAR_TIE = 1e-4  # score gap below which float32 rounding may turn a pick; reduced precision turns larger ones


@torch.no_grad()
def first_differences(
    pair: ModelPair,
    labels: Sequence[int] | Tensor,
    seeds: Sequence[int] | Tensor,
    sampling: Sampling,
    tokens: list[Tensor],
    reference_tokens: list[Tensor],
) -> Tensor:
    """The target's score gap where two decodes of the same images first differ.

    The target reads the reference tokens in one teacher-forced pass. At the first scale that differs, the gap of a
    position is how much the scores (log p + G) of its two tokens differ, or how near one of them is to the threshold of
    the filters, whichever is smaller: by so little the logits would have to move to turn the pick.

    Args:
        labels, seeds, sampling: as the two decodes had.
        tokens, reference_tokens: K int64 tensors (B, n_k) each.

    Returns:
        float64 (B,) on the CPU: the largest gap of the image's first differing scale; NaN where nothing differs. Below
        ``NEAR_TIE`` the difference is rounding; above it, the two decodes do not compute the same thing.
    """
    with set_aside(pair.device), no_captures():  # a pass of this shape comes rarely
        return _gaps(pair, *check_batch(pair, labels, seeds), sampling, tokens, reference_tokens)


def _gaps(
    pair: ModelPair,
    labels: Tensor,
    seeds: Tensor,
    sampling: Sampling,
    tokens: list[Tensor],
    reference_tokens: list[Tensor],
) -> Tensor:
    gaps = torch.full((len(labels),), math.nan, dtype=torch.float64)
    differs = torch.stack([(a != b).any(1) for a, b in zip(tokens, reference_tokens)], dim=1).cpu()  # (B, K)
    rows = differs.any(1).nonzero().flatten()
    if not len(rows):
        return gaps
    tokens = [t[rows.to(t.device)].to(pair.device) for t in tokens]
    reference_tokens = [t[rows.to(t.device)].to(pair.device) for t in reference_tokens]
    state = DecodeState(pair, labels[rows.to(labels.device)], seeds[rows.to(seeds.device)], sampling)
    inputs = pair.tokenizer.var_inputs(reference_tokens)
    images = range(len(rows))
    logits = state.stepper("target").all_logits(inputs)
    first = differs[rows].int().argmax(1).tolist()
    for i, (row, scale) in enumerate(zip(rows.tolist(), first)):
        ours, theirs = tokens[scale][i], reference_tokens[scale][i]
        where = (ours != theirs).nonzero().flatten()
        gumbel = state.gumbel(images, scale, logits[scale])[i, where]
        gap = _turning_gap(logits[scale][i, where], gumbel, ours[where], theirs[where], sampling)
        gaps[row] = gap.max().item()
    state.close()
    return gaps


def _turning_gap(logits: Tensor, gumbel: Tensor, ours: Tensor, theirs: Tensor, sampling: Sampling) -> Tensor:
    """Smallest move of the logits (m, V) that turns one token, int64 (m,), into the other: (m,)."""
    kept = sampling.filtered(logits) > -math.inf
    lowest_kept = logits.masked_fill(~kept, math.inf).amin(-1)
    highest_dropped = logits.masked_fill(kept, -math.inf).amax(-1)

    def of(values: Tensor, token: Tensor) -> Tensor:
        return values.gather(-1, token[:, None]).squeeze(-1)

    def to_threshold(token: Tensor) -> Tensor:
        logit = of(logits, token)
        return torch.where(of(kept, token), logit - highest_dropped, lowest_kept - logit)

    scores = logits + gumbel
    both_kept = of(kept, ours) & of(kept, theirs)
    by_score = (of(scores, ours) - of(scores, theirs)).abs().masked_fill(~both_kept, math.inf)
    return torch.stack((by_score, to_threshold(ours), to_threshold(theirs))).amin(0)
