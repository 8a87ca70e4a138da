"""Acceptance rules: does a drafted scale stand, and which tokens does it hold afterwards?

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
from sdvar.decoding.strategy import check_choice, check_int, check_number, check_share
from sdvar.sampling import Sampling, filtered_probabilities


@dataclass(frozen=True)
class Proposal:
    """One drafted scale of n images, as a rule sees it. Each image is to be judged on its own.

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
        return filtered_probabilities(self.target_logits, self.sampling.top_k, self.sampling.top_p)

    @cached_property
    def q(self) -> Tensor:
        """The distribution that the draft picked from, (n, n_k, V)."""
        if self.draft_logits is None:
            raise RuntimeError("this rule reads the draft's distribution: set needs_draft_distribution = True in it")
        return filtered_probabilities(self.draft_logits, self.sampling.top_k, self.sampling.top_p)

    def accept_noise(self) -> Tensor:
        """Uniform numbers for accepting a token or not, one a position: (n, n_k)."""
        positions = self.drafted.shape[1]
        return noise.uniform(self.seeds, "accept", self.scale, positions, 1, self.target_logits.dtype)[..., 0]

    def residual_noise(self) -> Tensor:
        """Gumbel numbers for a second draw, independent of those that picked the draft: (n, n_k, V)."""
        _, positions, vocabulary = self.target_logits.shape
        return noise.gumbel(self.seeds, "residual", self.scale, positions, vocabulary, self.target_logits.dtype)


class Verdict(NamedTuple):
    """What a rule decides.

    Attributes:
        tokens: int64 (n, n_k) the tokens to commit, whether the scale stands or not.
        accepted: bool (n,) whether the image's round goes on to the next scale.
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
    """Both models pick argmax(log prob + G) with the same G; a scale stands if all tokens agree.

    What is committed is always the target's pick, so the output is the baseline's for that seed, token for token.
    """

    lossless = True
    exact = True

    def judge(self, proposal: Proposal) -> Verdict:
        agreed = proposal.drafted == proposal.picked
        return Verdict(tokens=proposal.picked, accepted=agreed.all(1), agreed=agreed)


@dataclass(frozen=True)
class Match(Acceptance):
    """As Coupled, but a scale stands if at least a share of its tokens agree. Lossy.

    Args:
        tau: share of agreeing tokens that lets a scale stand, 0 .. 1.
        keep: what a standing scale holds: "draft" (the drafted tokens) or "target" (the target's picks). With "target"
            the later scales of the round were computed from other tokens, so both caches are cut after the round and
            the scales in question fed again, which target_tokens counts.
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
    """A scale stands if at least a share of its tokens are the target's most likely ones. Lossy.

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
    """A scale stands if at least a share of its tokens are among the target's k most likely ones. Lossy.

    Args:
        k: how many, at least 1; ties with the k-th count. A token that the filters remove is not among them.
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
    """A scale stands if the mean over its tokens of KL(p || q), before filtering, is small. Lossy.

    Filtered distributions have different supports, which makes their divergence infinite. No token is tested by itself:
    those that count as agreed are the target's picks.

    Args:
        epsilon: largest mean divergence in nats that lets a scale stand, at least 0.
    """

    epsilon: float

    needs_draft_distribution = True

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, least=0)

    def judge(self, proposal: Proposal) -> Verdict:
        if proposal.draft_logits is None:
            raise RuntimeError("KL reads the draft's distribution, but none was kept")
        log_p, log_q = proposal.target_logits.log_softmax(-1), proposal.draft_logits.log_softmax(-1)
        divergence = (log_p.exp() * (log_p - log_q)).sum(-1)  # (n, n_k)
        stands = divergence.mean(1) <= self.epsilon
        return _standing_draft(proposal, stands, proposal.drafted == proposal.picked)


def of_tokens(values: Tensor, tokens: Tensor) -> Tensor:
    """The value of each position's token: (n, n_k, V), int64 (n, n_k) -> (n, n_k)."""
    return values.gather(-1, tokens[..., None]).squeeze(-1)


def _by_share(proposal: Proposal, agreed: Tensor, tau: float, keep: str = "draft") -> Verdict:
    stands = agreed.double().mean(1) >= tau
    if keep == "draft":
        return _standing_draft(proposal, stands, agreed)
    return Verdict(proposal.picked, stands, agreed)


def _standing_draft(proposal: Proposal, stands: Tensor, agreed: Tensor) -> Verdict:
    """A standing scale holds all drafted tokens, a fallen one the target's picks."""
    return Verdict(torch.where(stands[:, None], proposal.drafted, proposal.picked), stands, agreed)
