"""Training of a draft towards its target's distributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lightning_modules.distilling.divergence import divergence
from lightning_modules.distilling.role import TAIL, Role
from lightning_modules.distilling.teaching.images import Images, held_out_images
from lightning_modules.distilling.teaching.teacher import Lesson, Teacher, guided_logits
from lightning_modules.distilling.tokens.stored import StoredImages
from lightning_modules.training.optimizers import each_step, warmup_then_cosine
from sdvar import noise
from sdvar.decoding import decode_as_given
from sdvar.decoding.strategies.handoff import Handoff
from sdvar.drafts import rounded
from sdvar.models.transformer import VAR
from sdvar.pair import ModelPair
from sdvar.planning.agreement import share_differing
from sdvar.sampling import pick

DIFFERING, DISTANCE = "val_tail_differing", "val_tail_distance"


@dataclass(frozen=True)
class Schedule:
    """How the weights move.

    Args:
        steps: of the optimiser.
        lr: at its height; it rises over ``warmup`` steps and falls to 0 by a half cosine.
        weight_decay: of the matrices.
        warmup: see ``lr``.
        on_policy: the share of the batches, at the end, whose scales the student samples itself.
        batches: of the whole training in one process; more than ``steps`` where gradients are accumulated.
    """

    steps: int
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 100
    on_policy: float = 0.0
    batches: int | None = None

    def is_on_policy(self, batch: int) -> bool:
        """Whether the student samples the scales of a batch that it will draft."""
        total = self.batches or self.steps
        return batch >= total - round(self.on_policy * total)


class Distiller(LightningModule):
    """A student VAR that learns KL(target ‖ student) of the scales of its role, both as decoding uses them.

    Batches are numbers; the images are sampled by the target in the step. Nothing here draws from torch's generators,
    so a run that is continued makes the same weights.

    Args:
        student: the draft.
        teacher: the target.
        role: which scales are trained.
        images: which images.
        schedule: of the optimiser.
        stored: images to take in place of those that the target would sample in the steps.
        weigh: says what a token of each scale of the role counts, once the models are on their device; None: all alike,
            or as the checkpoint has it that is continued from.
    """

    def __init__(
        self,
        student: VAR,
        teacher: Teacher,
        role: Role,
        images: Images,
        schedule: Schedule,
        stored: StoredImages | None = None,
        weigh: Callable[[ModelPair], list[float]] | None = None,
    ) -> None:
        super().__init__()
        self.student = student.train().requires_grad_()
        self.teacher, self.role, self.images, self.schedule, self.stored = teacher, role, images, schedule, stored
        self.weigh, self._accepted = weigh, []
        self.register_buffer("scale_weights", torch.ones(role.last - role.first))  # in checkpoints: it is measured
        self.scale_weights: Tensor

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device
        self.teacher.to(device)
        if self.weigh and stage == "fit":
            self.student.to(device)
            weights = self.weigh(self.pair()) if self.trainer.is_global_zero else None
            self.scale_weights.copy_(torch.tensor(self.trainer.strategy.broadcast(weights)))
            self.student.train()

    def pair(self) -> ModelPair:
        """The target with the student as it is now."""
        student = self.as_run()
        student.release()  # its weights may have changed
        return ModelPair(student, self.teacher.pair.target, self.teacher.pair.tokenizer)

    def as_run(self) -> VAR:
        """The student as decoding runs it: itself, or a copy that is rounded from its weights of now."""
        kind = self.student.rounded_to
        return rounded(self.student, kind) if kind else self.student

    def _as_trained(self) -> VAR:
        """The same numbers, with gradients."""
        kind = self.student.rounded_to
        return rounded(self.student, kind, trained=True) if kind else self.student

    def training_step(self, batch: int) -> Tensor:
        """Weighted mean divergence of the tokens of the role's scales, for this process' part of a batch."""
        lesson = self.lesson(batch)
        target, draft = self._both(lesson, self._as_trained())
        kl = divergence(target, draft, self.teacher.sampling)
        self.log("train_kl", kl.mean(), batch_size=len(lesson.labels))
        first, last, pyramid = self.role.first, self.role.last, self.student.pyramid
        return (kl * self.scale_weights[pyramid.scale_of_position(first, last, kl.device) - first]).mean()

    def lesson(self, batch: int) -> Lesson:
        """The images of this process' part of a batch."""
        labels, seeds = self.images.training(batch)
        known, on_policy = None, self.schedule.is_on_policy(batch)
        if self.stored is not None:
            numbers = self.images.numbers(batch)
            labels, known = self.stored.images(numbers)
            if self.stored.distributions and not on_policy:
                logits = self.stored.logits(numbers, self.student.codebook_size, self.device)
                return self.teacher.stored_lesson(labels, seeds, self.role.last, known, logits)
        if not on_policy:
            return self.teacher.lesson(labels, seeds, self.role.last, known=known)
        entry = self.role.entry(batch)
        lesson = self.teacher.lesson(labels, seeds, self.role.last, self.as_run(), entry, known)
        self.student.train()
        return lesson

    def _both(self, lesson: Lesson, student: VAR) -> tuple[Tensor, Tensor]:
        """Guided logits of target, filtered, and student for the scales of the role, (B, T, V) each."""
        first, last, pyramid = self.role.first, self.role.last, self.student.pyramid
        draft = guided_logits(student, lesson.labels.to(self.device), lesson.inputs, first, last, self.teacher.sampling)
        return lesson.logits[:, pyramid.span(first, last)], draft

    def on_validation_epoch_start(self) -> None:
        self._accepted = []

    def accepted(self) -> np.ndarray:
        """Of this process' images in the last validation, whether a whole scale agrees: bool (n, K)."""
        return torch.cat(self._accepted).cpu().numpy()

    def validation_step(self, batch: Sequence[int]) -> None:
        """On held-out images: the divergence, and how often both pick the same token under the same noise, by scale.

        ``val_accepted_K`` is the share of images whose whole scale K agrees: what `sdvar.Coupled` accepts. Images with
        a tail are decoded too, and compared with the baseline's: the share of tokens that differ, and the squared
        difference of f-hat over the square of the baseline's.
        """
        labels, seeds = held_out_images(tuple(batch), self.teacher.pair.num_classes)
        first, last, pyramid = self.role.first, self.role.last, self.student.pyramid
        lesson = self.teacher.lesson(labels, seeds, last)
        target, draft = self._both(lesson, self.as_run())
        kl = divergence(target, draft, self.teacher.sampling)
        agreed = self._picks(draft, lesson.seeds) == lesson.tokens[:, pyramid.span(first, last)]
        scores = {"val_kl": kl.mean(), "val_agreement": agreed.float().mean()}
        accepted = torch.zeros(len(labels), len(pyramid), dtype=torch.bool, device=agreed.device)
        of_scales = zip(pyramid.split(kl, first, last), pyramid.split(agreed, first, last))
        for scale, (kl_here, agreed_here) in enumerate(of_scales, start=first):
            scores[f"val_kl_{scale}"] = kl_here.mean()
            scores[f"val_agreement_{scale}"] = agreed_here.float().mean()
            accepted[:, scale] = agreed_here.all(1)
            scores[f"val_accepted_{scale}"] = accepted[:, scale].float().mean()
        self._accepted.append(accepted)
        if self.role.name == TAIL:
            scores |= self._beside_the_baseline(lesson)
        self.log_dict(scores, batch_size=len(labels), sync_dist=True)

    def _beside_the_baseline(self, lesson: Lesson) -> dict[str, Tensor]:
        pair, tail = self.pair(), Handoff(self.role.first, first="target")
        made = decode_as_given(pair, lesson.labels, lesson.seeds, tail, self.teacher.sampling, images=False).tokens
        plain = [scale.contiguous() for scale in pair.pyramid.split(lesson.tokens)]
        ours, theirs = (pair.tokenizer.quantize.f_hats(tokens)[-1].flatten(1) for tokens in (made, plain))
        distance = (ours - theirs).square().sum(1) / theirs.square().sum(1)
        return {DIFFERING: share_differing(plain, made).mean().float(), DISTANCE: distance.mean().float()}

    def _picks(self, draft: Tensor, seeds: Tensor) -> Tensor:
        """What the student picks with the noise of the images, int64 (B, T)."""
        first, last, pyramid = self.role.first, self.role.last, self.student.pyramid
        scales, places = (numbers[pyramid.span(first, last)].long() for numbers in pyramid.addresses(draft.device))
        gumbel = noise.gumbel(seeds, "pick", scales, places, draft.shape[-1], draft.dtype)
        return pick(self.teacher.sampling.filtered(draft), gumbel)

    def configure_optimizers(self) -> dict:
        matrices = [parameter for parameter in self.student.parameters() if parameter.ndim == 2]
        others = [parameter for parameter in self.student.parameters() if parameter.ndim != 2]
        groups = [
            {"params": matrices, "weight_decay": self.schedule.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.schedule.lr, betas=(0.9, 0.95))
        warmup, steps = max(1, self.schedule.warmup), self.schedule.steps
        return each_step(optimizer, lambda step: warmup_then_cosine(step, warmup, steps))
