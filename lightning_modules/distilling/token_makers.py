"""What makes token maps of batches in `Trainer.predict`: the target, which samples them, or the tokenizer."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

import sdvar
from lightning_modules.data.fashion_mnist import to_signed
from lightning_modules.distilling.teacher import Teacher
from sdvar.engine import tf32_allowed
from sdvar.models.tokenizer import VQVAE


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


class TokenEncoder(LightningModule):
    """Its predict step encodes the images of a batch.

    Args:
        tokenizer: with its encoder.
    """

    def __init__(self, tokenizer: VQVAE) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def predict_step(self, batch: dict, batch_idx: int) -> Tensor:
        """Tokens int64 (B, L) of ``pixels``, uint8 (B, 3, H, W)."""
        with tf32_allowed(False):
            return torch.cat(self.tokenizer.encode(to_signed(batch["pixels"])), dim=1)
