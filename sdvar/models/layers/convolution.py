"""Convolutions whose images do not depend on the images beside them; on a CPU by oneDNN."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sdvar.models.layers.linear import onednn_dtypes
from sdvar.models.layers.packing import Packed


class Conv2d(Packed, nn.Conv2d):
    """nn.Conv2d; in float32 on a CPU, outside of training, by a call whose order of adding follows the image alone.

    The one that torch takes by itself chooses its kernel by the number of images.
    """

    def forward(self, x: Tensor) -> Tensor:
        watched = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        if watched or not self.copies or x.dtype != self.weight.dtype:
            return super().forward(x)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._packed(), self.bias, *self._sizes, self.groups, "none", [], ""
        )

    @property
    def copies(self) -> bool:
        on_cpu = self.weight.device.type == "cpu"
        return on_cpu and self.weight.dtype == torch.float32 and torch.float32 in onednn_dtypes()

    def _reordered(self) -> Tensor:
        some = [1, self.in_channels, 16, 16]  # images for which the order is chosen
        return torch.ops.mkldnn._reorder_convolution_weight(self.weight.detach(), *self._sizes, self.groups, some)

    @property
    def _sizes(self) -> tuple[list[int], list[int], list[int]]:
        padding = cast("tuple[int, int]", self.padding)
        return list(padding), list(self.stride), list(self.dilation)
