"""Initial weights. On the meta device none are drawn: for that torch would import its compiler, some seconds."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Embedding(nn.Embedding):
    """nn.Embedding, whose numbers are not drawn on the meta device."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


def normal(*shape: int, std: float) -> Tensor:
    """Normal numbers of that shape with mean 0."""
    numbers = torch.empty(shape)
    return numbers if numbers.is_meta else numbers.normal_(std=std)
