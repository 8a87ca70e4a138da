"""What is printed of a training: some lines a validation."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from lightning_modules.distilling.distiller import DIFFERING, DISTANCE, Distiller
from lightning_modules.distilling.expected import Expected, Worth
from lightning_modules.distilling.role import Role


class Progress(Callback):
    """Prints after each validation how far the draft agrees on held-out images, and what that is worth.

    Args:
        role: whose scales have an agreement.
        worth: says what the draft is worth; None if that is not asked for.

    Attributes:
        expected: what it was worth at the last validation, by batch size.
    """

    def __init__(self, role: Role, worth: Worth | None) -> None:
        self.role, self.worth = role, worth
        self.expected: dict[int, Expected] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: Distiller) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
        by_scale = " ".join(f"{scores[f'val_agreement_{k}']:.3f}" for k in range(self.role.first, self.role.last))
        print(
            f"step {trainer.global_step}: KL {scores['val_kl']:.4f}, agreement {scores['val_agreement']:.4f} "
            f"(scales {self.role.first} to {self.role.last - 1}: {by_scale})",
            flush=True,
        )
        if DIFFERING in scores:
            told = f"{scores[DIFFERING]:.3f} of the tokens differ, f-hat by {scores[DISTANCE]:.3f} of its square"
            print(f"  images with this tail beside the baseline's: {told}", flush=True)
        if self.worth:
            self.expected = self.worth.of(pl_module.pair(), pl_module.accepted())
            for batch, at in self.expected.items():
                told = f"{at.speed:.2f} x the baseline's speed, {at.target_calls:.2f} target calls an image"
                print(f"  expected at batch {batch}: {told}, with {at.strategy}", flush=True)
