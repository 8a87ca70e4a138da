"""What makes token maps of batches in `Trainer.predict`: the target, which samples them, or the tokenizer."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule

import sdvar
from lightning_modules.data.fashion_mnist import to_signed
from lightning_modules.distilling.teaching.teacher import Lesson, Teacher
from lightning_modules.distilling.tokens.distributions import pack
from sdvar.engine import tf32_allowed
from sdvar.models.tokenizer import VQVAE


class TokenSampler(LightningModule):
    """Its predict step samples the images of a batch as the baseline does, without decoding pixels.

    Args:
        teacher: the target and how tokens are drawn.
        distributions: whether those that it draws from are kept.
    """

    def __init__(self, teacher: Teacher, distributions: bool = False) -> None:
        super().__init__()
        self.teacher, self.distributions = teacher, distributions

    def setup(self, stage: str) -> None:
        self.teacher.to(self.trainer.strategy.root_device)

    def predict_step(self, batch: dict, batch_idx: int) -> dict[str, Any]:
        """``tokens``, int64 (B, L), and the columns of `pack`; of images with ``label`` and ``seed``, int64 (B,)."""
        pair, labels, seeds = self.teacher.pair, batch["label"], batch["seed"]
        with tf32_allowed(False):
            if self.distributions:
                return _columns(self.teacher.lesson(labels, seeds, len(pair.pyramid)))
            made = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), self.teacher.sampling, images=False)
            return {"tokens": torch.cat(made.tokens, dim=1)}


class TokenEncoder(LightningModule):
    """Its predict step encodes the images of a batch.

    Args:
        tokenizer: with its encoder.
        teacher: whose distributions of the tokens are kept, if any.
    """

    def __init__(self, tokenizer: VQVAE, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.tokenizer, self.teacher = tokenizer, teacher

    def setup(self, stage: str) -> None:
        if self.teacher:
            self.teacher.to(self.trainer.strategy.root_device)

    def predict_step(self, batch: dict, batch_idx: int) -> dict[str, Any]:
        """``tokens``, int64 (B, L), and the columns of `pack`; of ``pixels``, uint8 (B, 3, H, W), with ``label``."""
        with tf32_allowed(False):
            tokens = torch.cat(self.tokenizer.encode(to_signed(batch["pixels"])), dim=1)
            if self.teacher is None:
                return {"tokens": tokens}
            labels, scales = batch["label"], len(self.tokenizer.pyramid)
            return _columns(self.teacher.lesson(labels, torch.zeros_like(labels), scales, known=tokens))


def _columns(lesson: Lesson) -> dict[str, Any]:
    return {"tokens": lesson.tokens, **pack(lesson.logits)}
