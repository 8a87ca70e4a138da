"""What makes token maps of batches in `Trainer.predict`: the target, which samples them, or the tokenizer."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

import sdvar
from lightning_modules.distilling.teacher import Teacher
from sdvar.engine import tf32_allowed


class TokenSampler(LightningModule):
    """Its predict step samples the images of a batch as the baseline does, without decoding pixels.

    Args:
        teacher: the target and how tokens are drawn.
    """

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def setup(self, stage: str) -> None:
        self.teacher.to(self.trainer.strategy.root_device)

    def predict_step(self, batch: dict, batch_idx: int) -> Tensor:
        """Tokens int64 (B, L) of the images with ``label`` and ``seed``, int64 (B,) each."""
        inputs = self.teacher.pair, batch["label"], batch["seed"], sdvar.Baseline(), self.teacher.sampling
        with tf32_allowed(False):
            return torch.cat(sdvar.decode(*inputs, images=False).tokens, dim=1)
