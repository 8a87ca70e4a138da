"""Acceptance rules: does a drafted scale stand, and which tokens does it hold afterwards?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sdvar.decoding.strategy import check_choice, check_share


class Proposal(NamedTuple):
    """One drafted scale of n images, as a rule sees it.

    Attributes:
        scale: scale number, from 0.
        drafted: int64 (n, n_k) tokens of the draft.
        picked: int64 (n, n_k) tokens that the target picks with the noise that the draft's were picked with.
    """

    scale: int
    drafted: Tensor
    picked: Tensor


class Verdict(NamedTuple):
    """What a rule decides.

    Attributes:
        tokens: int64 (n, n_k) the tokens to commit, whether the scale stands or not.
        stands: bool (n,) whether the image's round goes on to the next scale.
        agreed: bool (n, n_k) which drafted tokens passed the rule's token test.
    """

    tokens: Tensor
    stands: Tensor
    agreed: Tensor


class Acceptance(ABC):
    """A rule that judges one drafted scale of several images, each on its own."""

    lossless: bool = False

    @abstractmethod
    def judge(self, proposal: Proposal) -> Verdict:
        """Judge one scale."""


@dataclass(frozen=True)
class Coupled(Acceptance):
    """Both models pick argmax(log prob + G) with the same G; a scale stands if all tokens agree.

    What is committed is always the target's pick, so the output is the baseline's for that seed, token for token.
    """

    lossless = True

    def judge(self, proposal: Proposal) -> Verdict:
        agreed = proposal.drafted == proposal.picked
        return Verdict(tokens=proposal.picked, stands=agreed.all(1), agreed=agreed)


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
        stands = agreed.double().mean(1) >= self.tau
        tokens = proposal.picked
        if self.keep == "draft":
            tokens = proposal.drafted.where(stands[:, None], proposal.picked)
        return Verdict(tokens, stands, agreed)
