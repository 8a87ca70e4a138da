"""What an arm makes of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass  # not frozen: Lightning does not move frozen dataclasses when it collects predictions
class DecodedBatch:
    """One arm's images of a batch, with what decoding them took.

    Attributes:
        images: uint8 (B, H, W, 3) on the CPU.
        seeds: of the images, int64 (B,).
        tokens: K int64 tensors (B, n_k).
        per_image: statistics of each image, the names of ``PER_IMAGE``, int64 (B,) each.
        per_scale: counts summed over the B images, the names of ``PER_SCALE``, int64 (K,) each.
        per_round: the same by round and scale, the names of ``PER_ROUND``, int64 (K, K) each.
        seconds: time of the decode, the tokenizer's decoder included.
        part_seconds: by part, K + 1 numbers: at each scale, and outside the scales; see `seconds_per_scale`.
        baseline_seconds: `seconds` of the baseline, decoded in turn with this arm; None if it was not decoded.
        agreeing_tokens: tokens equal to the baseline's, int64 (B,); None without a baseline of the same seeds.
        score_gap: for exact arms the target's score gap at an image's first difference from the baseline, float64
            (B,), NaN where nothing differs; None for other arms.
    """

    images: Tensor
    seeds: Tensor
    tokens: list[Tensor]
    per_image: dict[str, Tensor]
    per_scale: dict[str, Tensor]
    per_round: dict[str, Tensor]
    seconds: float
    part_seconds: dict[str, list[float]]
    baseline_seconds: float | None = None
    agreeing_tokens: Tensor | None = None
    score_gap: Tensor | None = None
