"""Acceptance rules: is a drafted scale accepted, and which of its tokens are committed?

A rule of your own derives from `Acceptance` and has one method; docs/acceptance-rules.md has an example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from sdvar import noise
from sdvar.arguments import check_choice, check_int, check_non_negative, check_share
from sdvar.sampling import Sampling


@dataclass(frozen=True)
class Proposal:
    """One drafted scale of n images, as a rule sees it. A rule judges each image on its own.

    Attributes:
        scale: scale number k, from 0.
        drafted: int64 (n, n_k) tokens of the draft.
        picked: int64 (n, n_k) tokens that the target picks with the noise that the draft's were picked with.
        target_logits: (n, n_k, V) of the target, guided and divided by the temperature, not filtered.
        draft_logits: the same of the draft; None unless the rule says ``needs_draft_distribution``.
        codebook: (V, C_vae) vectors of the tokens.
        sampling: the filters.
        seeds: int64 (n,) of the images.
    """

    scale: int
    drafted: Tensor
    picked: Tensor
    target_logits: Tensor
    draft_logits: Tensor | None
    codebook: Tensor
    sampling: Sampling
    seeds: Tensor

    @cached_property
    def p(self) -> Tensor:
        """The distribution that the target picks from, (n, n_k, V)."""
        return self.sampling.probabilities(self.target_logits)

    @cached_property
    def q(self) -> Tensor:
        """The distribution that the draft picked from, (n, n_k, V)."""
        if self.draft_logits is None:
            raise RuntimeError("this rule reads the draft's distribution: set needs_draft_distribution = True in it")
        return self.sampling.probabilities(self.draft_logits)

    def accept_noise(self) -> Tensor:
        """Uniform numbers for accepting a token or not, one per position: (n, n_k)."""
        positions = self.drafted.shape[1]
        return noise.uniform(self.seeds, "accept", self.scale, positions, 1, self.target_logits.dtype)[..., 0]

    def residual_noise(self) -> Tensor:
        """Gumbel numbers for a second draw, independent of those that picked the draft: (n, n_k, V)."""
        _, positions, vocabulary = self.target_logits.shape
        return noise.gumbel(self.seeds, "residual", self.scale, positions, vocabulary, self.target_logits.dtype)


class Verdict(NamedTuple):
    """What a rule decides.

    Attributes:
        tokens: int64 (n, n_k) the tokens to commit, whether the scale is accepted or not.
        accepted: bool (n,) whether the scale is accepted: the image's round goes on to the next one.
        agreed: bool (n, n_k) which drafted tokens passed the rule's token test. For counting alone.
    """

    tokens: Tensor
    accepted: Tensor
    agreed: Tensor


class Acceptance(ABC):
    """A rule that judges one drafted scale of several images, each on its own.

    Attributes:
        lossless: whether the output is distributed exactly as the target's.
        exact: whether it is the baseline's for the same seed, token for token.
        needs_draft_distribution: whether the rule reads ``Proposal.q`` or ``Proposal.draft_logits``.
    """

    lossless: bool = False
    exact: bool = False
    needs_draft_distribution: bool = False

    @abstractmethod
    def judge(self, proposal: Proposal) -> Verdict:
        """Judge one scale."""


@dataclass(frozen=True)
class Coupled(Acceptance):
    """Both models pick argmax(log prob + G) with the same G; a scale is accepted if all tokens agree.

    What is committed is always the target's pick, so the output is the baseline's for that seed, token for token.
    """

    lossless = True
    exact = True

    def judge(self, proposal: Proposal) -> Verdict:
        agreed = proposal.drafted == proposal.picked
        return Verdict(tokens=proposal.picked, accepted=agreed.all(1), agreed=agreed)


@dataclass(frozen=True)
class Match(Acceptance):
    """As Coupled, but a scale is accepted if at least a share of its tokens agree. Lossy.

    Args:
        tau: share of agreeing tokens for which a scale is accepted, 0 .. 1.
        keep: the tokens of an accepted scale: "draft" (the drafted ones) or "target" (the target's picks). With
            "target" the later scales of the round were computed from other tokens, so both caches are cut after the
            round and those scales are fed again, which target_tokens counts.
    """

    tau: float = 0.5
    keep: str = "draft"

    def __post_init__(self) -> None:
        check_share("tau", self.tau)
        check_choice("keep", self.keep, ("draft", "target"))

    def judge(self, proposal: Proposal) -> Verdict:
        agreed = proposal.drafted == proposal.picked
        return _by_share(proposal, agreed, self.tau, self.keep)


@dataclass(frozen=True)
class Top1(Acceptance):
    """A scale is accepted if at least a share of its tokens are the target's most likely ones. Lossy.

    Args:
        tau: that share, 0 .. 1. The first prototype had 0.5.
    """

    tau: float = 0.5

    def __post_init__(self) -> None:
        check_share("tau", self.tau)

    def judge(self, proposal: Proposal) -> Verdict:
        return _by_share(proposal, proposal.drafted == proposal.target_logits.argmax(-1), self.tau)


@dataclass(frozen=True)
class TopK(Acceptance):
    """A scale is accepted if at least a share of its tokens are among the target's k most likely ones. Lossy.

    Args:
        k: how many, at least 1; ties with the k-th count. Tokens that the filters remove are not among them.
        tau: that share, 0 .. 1.
    """

    k: int
    tau: float = 0.5

    def __post_init__(self) -> None:
        check_int("k", self.k, least=1)
        check_share("tau", self.tau)

    def judge(self, proposal: Proposal) -> Verdict:
        p = proposal.p
        kth_best = p.topk(min(self.k, p.shape[-1]), dim=-1).values[..., -1]
        drafted = of_tokens(p, proposal.drafted)
        return _by_share(proposal, (drafted >= kth_best) & (drafted > 0), self.tau)


@dataclass(frozen=True)
class KL(Acceptance):
    """A scale is accepted if the mean over its tokens of KL(p || q), before filtering, is small. Lossy.

    Filtered distributions have different supports, which makes their divergence infinite. No token is tested by itself:
    those that equal the target's picks count as agreed.

    Args:
        epsilon: largest mean divergence in nats of an accepted scale, at least 0.
    """

    epsilon: float

    needs_draft_distribution = True

    def __post_init__(self) -> None:
        check_non_negative("epsilon", self.epsilon)

    def judge(self, proposal: Proposal) -> Verdict:
        if proposal.draft_logits is None:
            raise RuntimeError("KL reads the draft's distribution, but none was kept")
        log_p, log_q = proposal.target_logits.log_softmax(-1), proposal.draft_logits.log_softmax(-1)
        divergence = (log_p.exp() * (log_p - log_q)).sum(-1)  # (n, n_k)
        accepted = divergence.mean(1) <= self.epsilon
        return _accepted_draft(proposal, accepted, proposal.drafted == proposal.picked)


@dataclass(frozen=True)
class Rejection(Acceptance):
    """Speculative sampling (Leviathan et al. 2023, Chen et al. 2023), token by token; a scale is accepted if all are.

    A drafted token d is accepted with probability min(1, p(d) / q(d)), else drawn from max(p - q, 0). The output is
    distributed exactly as the target's, but for a given seed it is another draw than the baseline's.
    """

    lossless = True
    needs_draft_distribution = True

    def judge(self, proposal: Proposal) -> Verdict:
        p, q = proposal.p, proposal.q
        # u <= p / q without the division
        accepted = proposal.accept_noise() * of_tokens(q, proposal.drafted) <= of_tokens(p, proposal.drafted)
        return _accepted_or_drawn(proposal, accepted, (p - q).clamp_min(0))


@dataclass(frozen=True)
class Neighbour(Acceptance):
    """As Rejection, but d also counts for its nearest codebook entries (LANTERN, Jang et al., ICLR 2025). Lossy.

    Let A be d's nearest codebook entries, nearest first, as many as together have no more than delta of p. d is
    accepted with probability min(1, (p(d) + p(A)) / q(d)), else drawn from max(p_d - q, 0), where p_d is p with A's
    mass moved to d. delta bounds how far each token's distribution is bent, not the distribution of the image.

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
        accepted = proposal.accept_noise() * of_tokens(q, drafted) <= of_tokens(bent, drafted)
        return _accepted_or_drawn(proposal, accepted, (bent - q).clamp_min(0))


def of_tokens(values: Tensor, tokens: Tensor) -> Tensor:
    """The value of each position's token: (n, n_k, V), int64 (n, n_k) -> (n, n_k)."""
    return values.gather(-1, tokens[..., None]).squeeze(-1)


def _by_share(proposal: Proposal, agreed: Tensor, tau: float, keep: str = "draft") -> Verdict:
    accepted = agreed.double().mean(1) >= tau
    if keep == "draft":
        return _accepted_draft(proposal, accepted, agreed)
    return Verdict(proposal.picked, accepted, agreed)


def _accepted_draft(proposal: Proposal, accepted: Tensor, agreed: Tensor) -> Verdict:
    """All drafted tokens of an accepted scale, the target's picks of a rejected one."""
    return Verdict(torch.where(accepted[:, None], proposal.drafted, proposal.picked), accepted, agreed)


def _nearest(codebook: Tensor, tokens: Tensor, k: int) -> Tensor:
    """The k codebook entries nearest to each token without itself, nearest first: int64 (n, n_k) -> (n, n_k, k)."""
    size = codebook.shape[0]
    every = tokens.numel() >= size  # then those of the whole codebook are fewer
    entries = torch.arange(size, device=tokens.device) if every else tokens.flatten()
    # not by a product, whose rounding follows the number of rows
    distance = torch.cdist(codebook[entries], codebook, compute_mode="donot_use_mm_for_euclid_dist")
    distance.scatter_(1, entries[:, None], torch.inf)
    nearest = distance.topk(min(k, size - 1), dim=-1, largest=False).indices
    return nearest[tokens] if every else nearest.view(*tokens.shape, -1)


def _accepted_or_drawn(proposal: Proposal, accepted: Tensor, residual: Tensor) -> Verdict:
    """The drafted token where ``accepted`` (n, n_k), else a draw from ``residual`` (n, n_k, V), not normalised."""
    empty = residual.sum(-1, keepdim=True) == 0  # p = q up to rounding
    weights = torch.where(empty, proposal.p, residual)
    drawn = (weights.log() + proposal.residual_noise()).argmax(-1)
    return Verdict(torch.where(accepted, proposal.drafted, drawn), accepted.all(1), accepted)
