"""Acceptance rules that reject tokens at random and draw again from what the draft undersampled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdvar.decoding.acceptance import Acceptance, Proposal, Verdict, of_tokens
from sdvar.decoding.strategy import check_int, check_share


@dataclass(frozen=True)
class Rejection(Acceptance):
    """Speculative sampling (Leviathan et al. 2023, Chen et al. 2023), token by token; a scale stands if all are kept.

    A drafted token d is kept with probability min(1, p(d) / q(d)), else drawn from max(p - q, 0). The output is
    distributed exactly as the target's, but for a given seed it is another draw than the baseline's.
    """

    lossless = True
    needs_draft_distribution = True

    def judge(self, proposal: Proposal) -> Verdict:
        p, q = proposal.p, proposal.q
        # u <= p / q without the division
        kept = proposal.accept_noise() * of_tokens(q, proposal.drafted) <= of_tokens(p, proposal.drafted)
        return _kept_or_drawn(proposal, kept, (p - q).clamp_min(0))


@dataclass(frozen=True)
class Neighbour(Acceptance):
    """As Rejection, but d also answers for its nearest codebook entries (LANTERN, Jang et al., ICLR 2025). Lossy.

    Let A be d's nearest codebook entries, nearest first, as many as together hold no more than delta of p. d is kept
    with probability min(1, (p(d) + p(A)) / q(d)), else drawn from max(p_d - q, 0), where p_d is p with A's mass moved
    to d. delta bounds how far each token's distribution is bent, not the distribution of the image.

    Args:
        k: most entries in A, at least 1.
        delta: most mass in A, 0 .. 1. With 0 this is Rejection.
    """

    k: int
    delta: float

    needs_draft_distribution = True

    def __post_init__(self) -> None:
        check_int("k", self.k, least=1)
        check_share("delta", self.delta)

    def judge(self, proposal: Proposal) -> Verdict:
        p, q, drafted = proposal.p, proposal.q, proposal.drafted
        nearest = _nearest(proposal.codebook, drafted, self.k)  # (n, n_k, k)
        mass = p.gather(-1, nearest)
        mass = mass * (mass.cumsum(-1) <= self.delta)
        bent = p.scatter_add(-1, nearest, -mass).scatter_add(-1, drafted[..., None], mass.sum(-1, keepdim=True))
        kept = proposal.accept_noise() * of_tokens(q, drafted) <= of_tokens(bent, drafted)
        return _kept_or_drawn(proposal, kept, (bent - q).clamp_min(0))


def _nearest(codebook: Tensor, tokens: Tensor, k: int) -> Tensor:
    """The k codebook entries nearest to each token without itself, nearest first: int64 (n, n_k) -> (n, n_k, k)."""
    entries, back = tokens.unique(return_inverse=True)
    distance = torch.cdist(codebook[entries], codebook)
    distance.scatter_(1, entries[:, None], torch.inf)
    k = min(k, codebook.shape[0] - 1)
    return distance.topk(k, dim=-1, largest=False).indices[back]


def _kept_or_drawn(proposal: Proposal, kept: Tensor, residual: Tensor) -> Verdict:
    """The drafted token where ``kept`` (n, n_k), else a draw from ``residual`` (n, n_k, V), not normalised."""
    empty = residual.sum(-1, keepdim=True) == 0  # p = q up to rounding
    weights = torch.where(empty, proposal.p, residual)
    drawn = (weights.log() + proposal.residual_noise()).argmax(-1)
    return Verdict(torch.where(kept, proposal.drafted, drawn), kept.all(1), kept)
