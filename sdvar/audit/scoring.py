"""One pass of the target over given tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sdvar import noise
from sdvar.audit.scores import BINS, Scores
from sdvar.decoding import check_batch
from sdvar.decoding.state import DecodeState
from sdvar.decoding.surroundings import set_aside
from sdvar.models.running.cuda_graphs import no_captures
from sdvar.pair import ModelPair
from sdvar.sampling import Sampling

LOGITS_TOGETHER = {"cuda": 1 << 28, "cpu": 1 << 25}  # numbers that a pass returns at most
NUMBERS_TOGETHER = 1 << 22  # that are scored at once; a dozen float64 of each exist for that time


@torch.no_grad()
def score(
    pair: ModelPair,
    labels: Sequence[int] | Tensor,
    seeds: Sequence[int] | Tensor,
    tokens: Sequence[Tensor],
    sampling: Sampling | None = None,
) -> Scores:
    """Score the tokens of images under the target: one teacher-forced pass over all scales of each image.

    Args:
        pair: the models; the draft is not run.
        labels: N class labels.
        seeds: N seeds, of the random part of a rank alone; not the noise that decoding draws.
        tokens: K int64 tensors (N, n_k), as `DecodeResult.tokens`.
        sampling: of the baseline; ``Sampling()`` if None.

    Returns:
        Sums per image and scale, on the CPU; float64.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is allowed; or the target's logits are NaN
            or infinite.
    """
    sampling = Sampling() if sampling is None else sampling
    sampling.check_scales(len(pair.pyramid))
    if sampling.more_smooth:
        raise ValueError("more_smooth: expected False, got True: tokens do not describe such an image")
    together = max(1, _logits_together(pair) // (pair.pyramid.length * pair.target.codebook_size * 3))
    with set_aside(pair.device), no_captures():
        labels, seeds = check_batch(pair, labels, seeds)
        tokens = [part.to(pair.device) for part in tokens]
        for part in tokens:
            if len(part) != len(labels):
                raise ValueError(f"tokens: expected those of {len(labels)} images, got {len(part)}")
        parts = [
            _score(pair, labels[rows], seeds[rows], [part[rows] for part in tokens], sampling)
            for rows in (slice(first, first + together) for first in range(0, len(labels), together))
        ]
    return Scores.joined(parts)


def _logits_together(pair: ModelPair) -> int:
    return LOGITS_TOGETHER.get(pair.device.type, LOGITS_TOGETHER["cpu"])


def _score(pair: ModelPair, labels: Tensor, seeds: Tensor, tokens: list[Tensor], sampling: Sampling) -> Scores:
    """Of so many images as one pass takes."""
    inputs = pair.tokenizer.var_inputs(tokens)
    state = DecodeState(pair, labels, seeds, sampling)
    logits = state.stepper("target").all_logits(inputs)
    state.check_finite()
    state.close()
    scales = [
        _score_scale(logits[k], tokens[k], noise.uniform(seeds, "audit", k, count, 1, torch.float64)[..., 0], sampling)
        for k, count in enumerate(pair.pyramid.tokens)
    ]
    sums = torch.stack([of_scale for of_scale, _ in scales], dim=-1).cpu()  # (5, n, K)
    nats, entropy, variance, outside, unfiltered = sums
    return Scores(
        nats,
        entropy,
        variance,
        outside.long(),
        unfiltered,
        ranks=torch.stack([ranks for _, ranks in scales]).cpu(),
        tokens=torch.tensor(pair.pyramid.tokens),
    )


def _score_scale(logits: Tensor, tokens: Tensor, uniform: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Sums (5, n) over the positions of a scale, in the order of `Scores`, and its ranks (BINS,).

    Args:
        logits: guided, (n, n_k, V).
        tokens: int64 (n, n_k).
        uniform: the random part of the ranks, (n, n_k).
    """
    n, positions, vocabulary = logits.shape
    together = max(1, NUMBERS_TOGETHER // vocabulary)
    parts = zip(*(of_positions.flatten(0, 1).split(together) for of_positions in (logits, tokens, uniform)))
    values, ranks = zip(*(_score_positions(some, theirs, draws, sampling) for some, theirs, draws in parts))
    kept = torch.cat(ranks)
    counts = kept[kept >= 0].mul(BINS).long().clamp_max(BINS - 1).bincount(minlength=BINS)
    return torch.cat(values, dim=1).view(-1, n, positions).sum(-1), counts


def _score_positions(logits: Tensor, tokens: Tensor, uniform: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """What `_score_scale` sums, of m positions: float64 (5, m); and the ranks (m,), -1 outside of the support."""
    filtered = sampling.filtered(logits).double()  # filtered as when a token is picked: its support to the bit
    log_p = filtered.log_softmax(-1)
    p, finite_log_p = log_p.exp(), log_p.masked_fill(log_p == -math.inf, 0)

    def of_token(values: Tensor) -> Tensor:
        return values.gather(-1, tokens[:, None])

    entropy = -(p * finite_log_p).sum(-1)
    variance = (p * (finite_log_p + entropy[:, None]).square()).sum(-1)
    chosen = of_token(filtered)
    more, as_likely = (p.masked_fill(~which, 0).sum(-1) for which in (filtered > chosen, filtered == chosen))
    outside = chosen[:, 0] == -math.inf
    rank = (more + uniform * as_likely).masked_fill(outside, -1)
    nats, unfiltered = -of_token(log_p)[:, 0], -of_token(logits.double().log_softmax(-1))[:, 0]
    sums = torch.stack((nats, entropy, variance)).masked_fill(outside, 0)
    return torch.cat((sums, torch.stack((outside.double(), unfiltered)))), rank
