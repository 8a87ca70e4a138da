"""What decoding returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import torch
from torch import Tensor


@dataclass(frozen=True)
class DecodeStats:
    """What a decode cost and how the draft fared; int64 CPU tensors.

    Attributes:
        target_calls, draft_calls: (B,) passes of each model that the image took part in. What a model makes of the
            class alone, scale 0 included, is no pass of a decode, see `sdvar.models.running.class_prefix`.
        target_tokens, draft_tokens: (B,) positions those passes processed, counted once, not per guidance branch.
        drafted_tokens, agreed_tokens: (K,) tokens judged at each scale and those that passed the rule's token test,
            summed over images. A drafted scale that is not judged, because one before it was rejected, is not counted.
        drafted_scales, accepted_scales: (K,) the same for whole scales.
        drafted_rounds, accepted_rounds: (K, K) the same again, by round and scale: entry [r, k] counts the images whose
            scale k was judged, or accepted, in their own round r. A round is one verification; an image has at most K.
    """

    target_calls: Tensor
    draft_calls: Tensor
    target_tokens: Tensor
    draft_tokens: Tensor
    drafted_tokens: Tensor
    agreed_tokens: Tensor
    drafted_scales: Tensor
    accepted_scales: Tensor
    drafted_rounds: Tensor
    accepted_rounds: Tensor


@dataclass(frozen=True)
class DecodeResult:
    """Decoded images.

    Attributes:
        images: float32 (B, 3, H, W) in [0, 1], or None if not asked for.
        tokens: K int64 tensors (B, n_k).
        stats: what it cost.
    """

    images: Tensor | None
    tokens: list[Tensor]
    stats: DecodeStats


class ScaleCounts:
    """Running per-scale counts of a decode."""

    def __init__(self, scales: int) -> None:
        self.drafted_tokens = torch.zeros(scales, dtype=torch.int64)
        self.agreed_tokens = torch.zeros(scales, dtype=torch.int64)
        self.drafted_rounds = torch.zeros(scales, scales, dtype=torch.int64)
        self.accepted_rounds = torch.zeros(scales, scales, dtype=torch.int64)

    @property
    def drafted_scales(self) -> Tensor:
        return self.drafted_rounds.sum(0)

    @property
    def accepted_scales(self) -> Tensor:
        return self.accepted_rounds.sum(0)

    def add(
        self, scale: int, tokens: int, rounds: Sequence[int], agreed: Sequence[int], accepted: Sequence[int]
    ) -> None:
        """Count one judged scale of n images.

        Args:
            scale: its number.
            tokens: n_k.
            rounds: the round of each image.
            agreed: tokens of each that agreed.
            accepted: 1 for each whose scale is accepted, else 0.
        """
        self.drafted_tokens[scale] += tokens * len(rounds)
        self.agreed_tokens[scale] += sum(agreed)
        for number, images in Counter(rounds).items():
            self.drafted_rounds[number, scale] += images
        for number, images in Counter(compress(rounds, accepted)).items():
            self.accepted_rounds[number, scale] += images
