"""Optimisers and learning-rate schedules of the training runs."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def warmup_then_cosine(step: int, warmup: int, total: int) -> float:
    """Factor of the learning rate: a linear rise over `warmup` steps, then a half cosine down to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup)))


def trapezoid(step: int, warmup: int, total: int, decay_share: float) -> float:
    """Factor of the learning rate: up over `warmup` steps, level, down to 0 over the last `decay_share` of `total`.

    Level up to the decay, so that a run can be resumed with another `total`.
    """
    return max(0.0, min((step + 1) / warmup, 1.0, (total - step) / max(1.0, decay_share * total)))


def each_step(optimizer: torch.optim.Optimizer, schedule: LRScheduler | Callable[[int], float]) -> dict:
    """What `configure_optimizers` returns: the learning rate, or a factor of it by step, changes every step."""
    scheduler = schedule if isinstance(schedule, LRScheduler) else LambdaLR(optimizer, schedule)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Together(torch.optim.Optimizer):
    """Several optimisers that step as one: Lightning's automatic optimisation takes a single one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        super().__init__([parameter for group in self._groups() for parameter in group["params"]], {})
        self.param_groups = self._groups()  # the parts' own dicts: a schedule writes the learning rates there

    def _groups(self) -> list[dict]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Run the closure once, then every part's step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict:
        """The parts' states."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the parts' states."""
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = self._groups()


def muon_and_adamw(model: nn.Module, lr: float, weight_decay: float) -> Together:
    """Muon for the matrices of a VAR's blocks, AdamW for everything else, at one learning rate."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        in_block = "blocks." in name and parameter.ndim == 2
        (matrices if in_block else others).append(parameter)
    return Together(
        torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.95), fused=True),
    )
