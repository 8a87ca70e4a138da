"""What is printed of a training: one line a validation."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lightning_modules.distilling.role import Role


class Progress(Callback):
    """Prints the held-out divergence and agreement after each validation.

    Args:
        role: whose scales have an agreement.
    """

    def __init__(self, role: Role) -> None:
        self.role = role

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
        by_scale = " ".join(f"{scores[f'val_agreement_{k}']:.3f}" for k in range(self.role.first, self.role.last))
        print(
            f"step {trainer.global_step}: KL {scores['val_kl']:.4f}, agreement {scores['val_agreement']:.4f} "
            f"(scales {self.role.first} to {self.role.last - 1}: {by_scale})",
            flush=True,
        )
