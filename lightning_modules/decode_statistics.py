"""Decode statistics as a torchmetrics metric: sums that add up over batches and processes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_modules.columns import PER_IMAGE, PER_SCALE


class DecodeStatistics(Metric):
    """Decode statistics of one arm: means over images and shares per scale.

    Args:
        num_scales: scales of the pyramid, K.
    """

    full_state_update = False

    def __init__(self, num_scales: int) -> None:
        super().__init__()
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")
        for name in PER_IMAGE:
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")
        for name in PER_SCALE:
            self.add_state(name, torch.zeros(num_scales, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, per_image: Mapping[str, Tensor], per_scale: Mapping[str, Tensor]) -> None:
        """Adds a batch.

        Args:
            per_image: for each name of ``PER_IMAGE`` a value per image, int (B,).
            per_scale: for each name of ``PER_SCALE`` the sums over the batch, int (K,).
        """
        self.images = self.images + len(per_image[PER_IMAGE[0]])
        for name in PER_IMAGE:
            setattr(self, name, getattr(self, name) + per_image[name].sum().to(self.device, torch.int64))
        for name in PER_SCALE:
            setattr(self, name, getattr(self, name) + per_scale[name].to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Means over images, float64 (), and shares per scale, float64 (K,); NaN where there is nothing to divide by.

        ``agreement_per_scale`` is the share of drafted tokens that agree with the target's pick,
        ``accepted_scales_per_scale`` the share of drafted scales that are accepted.
        """
        means = {f"{name}_mean": getattr(self, name).double() / self.images for name in PER_IMAGE}
        return means | {
            "agreement_per_scale": self.agreed_tokens.double() / self.drafted_tokens,
            "accepted_scales_per_scale": self.accepted_scales.double() / self.drafted_scales,
        }
