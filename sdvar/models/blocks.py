"""The parts of a VAR: attention, MLP, adaptive layer norm."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdvar.models.kv_cache import CacheWindow, LayerCache
from sdvar.models.layers.attention import Visibility, attend
from sdvar.models.layers.elementwise import silu
from sdvar.models.layers.initial import normal
from sdvar.models.layers.linear import Linear

NORM_EPS = 1e-6
MAX_LOG_SCALE = math.log(100)  # limit of the learned attention scale


class SelfAttention(nn.Module):
    """Multi-head self-attention, its keys normalised and cached.

    Args:
        width, heads: C, attention heads.
        qk_norm: cosine attention with a learned scale per head; else attention is scaled by 0.25 / sqrt(d).
    """

    zero_k_bias: Tensor

    def __init__(self, width: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qk_norm = qk_norm
        self.kernel = "auto"
        if qk_norm:
            self.scale_mul_1H11 = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4.0)))
            self.scale = 1.0
        else:
            self.scale = 0.25 / math.sqrt(width // heads)
        self.mat_qkv = Linear(width, 3 * width, bias=False, packed=True)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("zero_k_bias", torch.zeros(width))
        self.proj = Linear(width, width, packed=True)

    def forward(
        self, x: Tensor, visibility: Visibility, cache: LayerCache | None, window: CacheWindow | None
    ) -> Tensor:
        n, length, width = x.shape
        bias = torch.cat((self.q_bias, self.zero_k_bias, self.v_bias))
        qkv = self.mat_qkv(x, bias).view(n, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (n, heads, length, d)
        if self.qk_norm:
            learned = self.scale_mul_1H11.float() if v.dtype != torch.float64 else self.scale_mul_1H11
            q = (F.normalize(q.to(learned.dtype), dim=-1) * learned.clamp_max(MAX_LOG_SCALE).exp()).to(v.dtype)
            k = F.normalize(k.to(learned.dtype), dim=-1).to(v.dtype)
        if cache is not None and window is not None:
            k, v = cache.update(k, v, window)
        return self.proj(attend(q, k, v, visibility, self.scale, self.kernel).transpose(1, 2).reshape(n, length, width))

    def by_kernels(
        self,
        kernels: Any,
        h: Tensor,
        n: int,
        length: int,
        visibility: Visibility,
        cache: LayerCache | None,
        window: CacheWindow | None,
    ) -> Tensor:
        """As `forward`, by the project's kernels: h (n * length or more, C) -> (n * length, C)."""
        if cache is None or window is None:
            shape = n, self.heads, length, h.shape[1] // self.heads
            cache, window = LayerCache(h.new_empty(shape), h.new_empty(shape)), CacheWindow(None, 0, 0, length)
        biases = self.q_bias, self.zero_k_bias, self.v_bias
        log_scales = self.scale_mul_1H11 if self.qk_norm else None
        q = kernels.heads(self.mat_qkv(h), biases, log_scales, n, cache, window)
        attended = attend(q, *cache.visible(window), visibility, self.scale, self.kernel)
        return self.proj(attended.transpose(1, 2).reshape(n * length, -1))


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden, packed=True)
        self.fc2 = Linear(hidden, width, packed=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x, gelu=True))


class SiLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return silu(x)


class AdaLNProjection(nn.Sequential):
    """Class embedding (n, C) -> ``parts`` modulation vectors, (n, parts, 1, C)."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__(SiLU(), Linear(width, parts * width))
        self.parts = parts

    @property
    def matrix(self) -> Tensor:
        """The weights, (parts * C, C)."""
        return cast(Linear, self[1]).weight

    def forward(self, condition: Tensor) -> Tensor:
        projected = super().forward(condition.to(self.matrix.dtype))
        return projected.view(condition.shape[0], self.parts, 1, -1)


class Block(nn.Module):
    """Attention and MLP, each after a layer norm modulated by the class (AdaLN) and scaled by a gain of the class."""

    def __init__(self, width: int, heads: int, hidden: int, shared_adaln: bool, qk_norm: bool) -> None:
        super().__init__()
        self.attn = SelfAttention(width, heads, qk_norm)
        self.ffn = MLP(width, hidden)
        if shared_adaln:
            self.ada_gss = nn.Parameter(normal(1, 1, 6, width, std=width**-0.5))
        else:
            self.ada_lin = AdaLNProjection(width, 6)

    def modulation(self, condition: Tensor, shared: Tensor | None) -> Tensor:
        """(n, 6, 1, C) from the class embedding (n, C) or from the modulation that all blocks share."""
        return self.ada_lin(condition) if shared is None else shared + self.ada_gss.transpose(1, 2)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        visibility: Visibility,
        cache: LayerCache | None,
        window: CacheWindow | None,
        kernels: Any = None,
    ) -> Tensor:
        """One block.

        Args:
            x: (n, T, C), the residual stream. Kernels overwrite it.
            modulation: (n, 6, 1, C), see `modulation`.
            visibility, cache, window: of the attention.
            kernels: the module `sdvar.kernels.blocks`, where it is to be used.

        Returns:
            (n, T, C).
        """
        gain1, gain2, scale1, scale2, shift1, shift2 = modulation.unbind(1)
        dtype = self.ffn.fc1.weight.dtype
        if kernels:
            h = kernels.modulated(x, scale1, shift1, dtype)
            n, length, _ = x.shape
            branch = self.attn.by_kernels(kernels, h, n, length, visibility, cache, window)
            h = kernels.added(x, branch, gain1, scale2, shift2, dtype)
            kernels.add(x, self.ffn(h), gain2)
            return x
        h = layer_norm(x) * (1 + scale1) + shift1
        x = x + self.attn(h.to(dtype), visibility, cache, window) * gain1
        h = layer_norm(x) * (1 + scale2) + shift2
        return x + self.ffn(h.to(dtype)) * gain2


class HeadNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ada_lin = AdaLNProjection(width, 2)


def layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
