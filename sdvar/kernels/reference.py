"""What `sdvar.kernels.blocks` computes, by torch's operations: to compare with, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sdvar.models.blocks import MAX_LOG_SCALE, layer_norm
from sdvar.models.kv_cache import CacheWindow, LayerCache
from sdvar.models.layers.invariant import BLOCKS


def modulated(x: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
    """As that of the kernels."""
    h = (layer_norm(x) * (1 + scale.float()) + shift.float()).to(dtype).flatten(0, 1)
    return F.pad(h, (0, 0, 0, -len(h) % max(BLOCKS[x.device.type])))


def added(x: Tensor, branch: Tensor, gain: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
    """As that of the kernels."""
    add(x, branch, gain)
    return modulated(x, scale, shift, dtype)


def add(x: Tensor, branch: Tensor, gain: Tensor) -> None:
    """As that of the kernels."""
    tokens = x.shape[0] * x.shape[1]
    x.add_(branch[:tokens].float().view_as(x) * gain.float())


def heads(
    qkv: Tensor,
    biases: tuple[Tensor, Tensor, Tensor],
    log_scales: Tensor | None,
    n: int,
    cache: LayerCache,
    window: CacheWindow,
) -> Tensor:
    """As that of the kernels."""
    _, count, _, width = cache.keys.shape
    tokens = window.end - window.start
    parts = (qkv[: n * tokens].float() + torch.cat(biases).float()).view(n, tokens, 3, count, width)
    q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
    if log_scales is not None:
        q = F.normalize(q, dim=-1) * log_scales.float().clamp_max(MAX_LOG_SCALE).exp()
        k = F.normalize(k, dim=-1)
    cache.update(k.to(qkv.dtype), v.to(qkv.dtype), window)
    return q.to(qkv.dtype)
