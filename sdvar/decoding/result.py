"""What decoding returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DecodeStats:
    """What a decode cost and how the draft fared; int64 CPU tensors.

    Attributes:
        target_calls, draft_calls: (B,) passes of each model that the image took part in.
        target_tokens, draft_tokens: (B,) positions those passes processed, counted once, not per guidance branch.
        drafted_tokens, agreed_tokens: (K,) tokens judged at each scale and those that passed the rule's token test,
            summed over images. A drafted scale that was never judged, because one before it fell, is not counted.
        drafted_scales, accepted_scales: (K,) the same for whole scales.
    """

    target_calls: Tensor
    draft_calls: Tensor
    target_tokens: Tensor
    draft_tokens: Tensor
    drafted_tokens: Tensor
    agreed_tokens: Tensor
    drafted_scales: Tensor
    accepted_scales: Tensor


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
        self.drafted_scales = torch.zeros(scales, dtype=torch.int64)
        self.accepted_scales = torch.zeros(scales, dtype=torch.int64)

    def add(self, scale: int, agreed: Tensor, stands: Tensor) -> None:
        """Count one judged scale: ``agreed`` bool (n, n_k), ``stands`` bool (n,)."""
        self.drafted_tokens[scale] += agreed.numel()
        self.agreed_tokens[scale] += int(agreed.sum())
        self.drafted_scales[scale] += stands.numel()
        self.accepted_scales[scale] += int(stands.sum())
