"""Training of the VARs: next-scale cross-entropy, and distillation of a draft from its target."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor

from lightning_modules.training.optimizers import each_step, muon_and_adamw, trapezoid
from sdvar.checkpoints import load_var
from sdvar.checkpoints.loading import load_full_var
from sdvar.models.transformer import VAR

Batch = tuple[Tensor, Tensor, Tensor]  # labels (B,), tokens (B, L), inputs (B, L - n_0, C_vae)


class NextScaleTraining(LightningModule):
    """What both kinds of training share: a VAR as `self.var`, its validation and its optimisers."""

    var: VAR

    def on_fit_start(self) -> None:
        if self.hparams.compile_model:
            self.var.compile()

    def run(self, var: VAR, labels: Tensor, inputs: Tensor) -> Tensor:
        """Logits of a VAR; compiled only in training, where there is one shape: validation's odd batch costs more."""
        return var(labels, inputs) if self.training else var.forward(labels, inputs)

    def cross_entropy(self, batch: Batch) -> Tensor:
        """Cross-entropy of every token, (B, L)."""
        labels, tokens, inputs = batch
        logits = self.run(self.var, labels, inputs)
        return F.cross_entropy(logits.flatten(0, 1), tokens.long().flatten(), reduction="none").view(tokens.shape)

    def validation_step(self, batch: Batch) -> None:
        losses = self.cross_entropy(batch)
        count = len(losses)
        self.log("val_loss", losses.mean(), batch_size=count, prog_bar=True)
        for scale, part in enumerate(self.var.pyramid.split(losses)):
            self.log(f"val_loss_scale_{scale}", part.mean(), batch_size=count)

    def configure_optimizers(self) -> dict:
        optimizer = muon_and_adamw(self.var, self.hparams.lr, self.hparams.weight_decay)
        total, hparams = int(self.trainer.estimated_stepping_batches), self.hparams
        return each_step(optimizer, lambda step: trapezoid(step, hparams.warmup, total, hparams.decay_share))


class VARTraining(NextScaleTraining):
    """Cross-entropy of the next scale's tokens, all tokens of the pyramid alike.

    Args:
        lr: level of the learning rate.
        weight_decay: of both optimisers.
        warmup: steps of the learning rate's rise.
        decay_share: last share of the run, over which the learning rate decreases to 0.
        compile_model: compile the network.
        **shape: arguments of `sdvar.VAR`.
    """

    def __init__(
        self,
        lr: float = 3e-3,
        weight_decay: float = 0.05,
        warmup: int = 100,
        decay_share: float = 0.4,
        compile_model: bool = True,
        **shape: Any,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.var = VAR(**shape)
        self.var.init_weights()

    def training_step(self, batch: Batch) -> Tensor:
        loss = self.cross_entropy(batch).mean()
        self.log("train_loss", loss)
        return loss


class DraftDistillation(NextScaleTraining):
    """Continues a draft towards its target's distributions, as guided decoding uses them: mean KL(target ‖ draft).

    Args:
        target: the target's weights.
        start: the draft's weights to start from.
        cfgs: guidance strengths at which the distributions are compared; 0 compares the class branches.
        lr, weight_decay, warmup, decay_share, compile_model: see `VARTraining`.
    """

    def __init__(
        self,
        target: Path,
        start: Path,
        cfgs: tuple[float, ...] = (0.0, 1.5),
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        warmup: int = 50,
        decay_share: float = 1.0,
        compile_model: bool = True,
    ) -> None:
        for name, path in (("target", target), ("start", start)):
            if not Path(path).is_file():
                raise ValueError(f"{name}: no such file: {path}")
        super().__init__()
        self.save_hyperparameters()
        self.var = load_full_var(start).train().requires_grad_()
        self.var.drop_label = 0.0  # the null class has a branch of its own
        self.teacher = [load_var(target).eval().requires_grad_(False)]  # in a list: not trained, averaged or saved

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.teacher[0].to(self.device)
        if self.hparams.compile_model:
            self.teacher[0].compile()

    def training_step(self, batch: Batch) -> Tensor:
        target, draft = self.guided(batch)
        loss = sum(divergence(t, d).mean() for t, d in zip(target, draft, strict=True)) / len(target)
        self.log("train_kl", loss)
        return loss

    def validation_step(self, batch: Batch) -> None:
        """Log the divergence and how often both models pick the same token under the same Gumbel noise."""
        super().validation_step(batch)
        generator = torch.Generator(self.device).manual_seed(0)
        for cfg, target, draft in zip(self.hparams.cfgs, *self.guided(batch), strict=True):
            noise = torch.empty_like(target).exponential_(generator=generator).log_().neg_()
            agreement = ((target + noise).argmax(-1) == (draft + noise).argmax(-1)).float().mean()
            scores = {f"val_kl_cfg_{cfg:g}": divergence(target, draft).mean(), f"val_agreement_cfg_{cfg:g}": agreement}
            self.log_dict(scores, batch_size=len(target), prog_bar=True)

    def guided(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Guided logits of the target and of the draft, one (B, L, V) for each of `cfgs`."""
        labels, _, inputs = batch
        both = torch.cat((labels, torch.full_like(labels, self.var.num_classes)))
        inputs = inputs.repeat(2, 1, 1)
        with torch.no_grad():
            target = self.run(self.teacher[0], both, inputs)
        scales = len(self.var.pyramid)
        ramp = self.var.lvl_1L.view(-1, 1) / max(1, scales - 1)  # (L, 1): guidance grows with the scale
        return tuple(
            [(1 + cfg * ramp) * given - cfg * ramp * null for cfg in self.hparams.cfgs]
            for given, null in (target.chunk(2), self.run(self.var, both, inputs).chunk(2))
        )


def divergence(target: Tensor, draft: Tensor) -> Tensor:
    """KL(softmax(target) ‖ softmax(draft)) over the last dimension."""
    target, draft = target.log_softmax(-1), draft.log_softmax(-1)
    return (target.exp() * (target - draft)).sum(-1)
