"""The multi-scale residual quantiser: the only place that updates f-hat and makes the next scale's input."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdvar.kernels.selection import fused_f_hat
from sdvar.models.layers.initial import Embedding
from sdvar.models.layers.linear import product
from sdvar.pyramid import ScalePyramid

RESIDUAL_RATIO = 0.5  # r of every released tokenizer; a file does not hold it


class Phi(nn.Conv2d):
    """Residual 3x3 convolution that smooths an up-sampled token map: (1 - r) h + r conv(h)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return torch.add(h.mul(1 - RESIDUAL_RATIO), self._convolved(h), alpha=RESIDUAL_RATIO)

    def added(self, f_hat: Tensor, h: Tensor) -> Tensor:
        """f_hat + phi(h), to the bit: with r = 1/2 it is f_hat + (h + conv(h)) / 2, and halving rounds nothing."""
        convolved = self._convolved(h)
        by_kernel = None if torch.is_grad_enabled() else fused_f_hat(h.device, h.dtype)
        if by_kernel is not None:
            return by_kernel(f_hat, h, convolved)
        return torch.add(f_hat, h + convolved, alpha=RESIDUAL_RATIO)

    def _convolved(self, h: Tensor) -> Tensor:
        # a product of every 3x3 patch: a convolution's last bits follow the number of images in the call
        return product(_patches(h), self.weight.flatten(1), self.bias).transpose(1, 2).reshape(h.shape)


def _patches(h: Tensor) -> Tensor:
    """The 3x3 neighbourhood of each position, zeros outside: (B, C, S, S) -> (B, S * S, 9 C)."""
    if h.is_cuda and len(h) > 2:  # torch's own launches a kernel for each image
        patches = F.pad(h, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)  # (B, C, S, S, 3, 3)
        return patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    return F.unfold(h, kernel_size=3, padding=1).transpose(1, 2)


class PhiBank(nn.Module):
    """Phis shared by the scales: scale k takes the one whose tick is nearest to k / (K - 1)."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.qresi_ls = nn.ModuleList(Phi(channels) for _ in range(count))
        margin = 1 / 3 / count if count == 4 else 1 / 2 / count
        # float64 on purpose: exact ties occur at ten scales, and the released weights follow numpy's rounding of them
        self.ticks = np.linspace(margin, 1 - margin, count)

    def index(self, scale: int, scales: int) -> int:
        """Number of the phi that scale ``scale`` of ``scales`` uses."""
        position = scale / (scales - 1) if scales > 1 else 0.0
        return int(np.argmin(np.abs(self.ticks - position)))

    def for_scale(self, scale: int, scales: int) -> Phi:
        return cast(Phi, self.qresi_ls[self.index(scale, scales)])


class SinglePhi(nn.Module):
    """One phi for all scales."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qresi = Phi(channels)

    def for_scale(self, scale: int, scales: int) -> Phi:
        return self.qresi


class PhiPerScale(nn.ModuleList):
    """One phi per scale."""

    def __init__(self, channels: int, scales: int) -> None:
        super().__init__(Phi(channels) for _ in range(scales))

    def for_scale(self, scale: int, scales: int) -> Phi:
        return cast(Phi, self[scale])


class MultiScaleQuantizer(nn.Module):
    """Multi-scale residual vector quantiser (VAR, Tian et al. 2024, algorithms 1 and 2).

    Args:
        pyramid: sides of the token maps; the last is the side S of the feature map f.
        codebook_size: V.
        channels: C_vae, width of a codebook vector.
        phi_sharing: 0 for one phi per scale, 1 for a single phi, n > 1 for n phis shared by the scales.
    """

    def __init__(
        self,
        pyramid: ScalePyramid,
        codebook_size: int,
        channels: int,
        phi_sharing: int = 4,
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.channels = channels
        self.embedding = Embedding(codebook_size, channels)
        if phi_sharing == 0:
            self.quant_resi: PhiPerScale | SinglePhi | PhiBank = PhiPerScale(channels, len(pyramid))
        elif phi_sharing == 1:
            self.quant_resi = SinglePhi(channels)
        else:
            self.quant_resi = PhiBank(channels, phi_sharing)
        # not used here; a key of the released file
        self.register_buffer("ema_vocab_hit_SV", torch.zeros(len(pyramid), codebook_size))

    @property
    def side(self) -> int:
        """S, side of the feature map."""
        return self.pyramid.patch_nums[-1]

    def empty_f_hat(self, batch: int) -> Tensor:
        """f-hat before the first scale: zeros (batch, C_vae, S, S)."""
        weight = self.embedding.weight
        return torch.zeros(batch, self.channels, self.side, self.side, dtype=weight.dtype, device=weight.device)

    def contribution(self, tokens: Tensor, scale: int) -> Tensor:
        """What a token map adds to f-hat: phi(bicubic up(codebook[tokens])).

        Args:
            tokens: int64 (B, n_k).
            scale: k, from 0.

        Returns:
            (B, C_vae, S, S).
        """
        return self._phi(scale)(self._upsampled(self.embedding(tokens), scale))

    def added(self, f_hat: Tensor, code: Tensor, scale: int) -> Tensor:
        """f-hat after a scale, from the one before it: f_hat + phi(bicubic up(code)).

        Args:
            f_hat: (B, C_vae, S, S).
            code: (B, n_k, C_vae) codebook vectors.
            scale: k, from 0.

        Returns:
            (B, C_vae, S, S).
        """
        return self._phi(scale).added(f_hat, self._upsampled(code, scale))

    def _phi(self, scale: int) -> Phi:
        return self.quant_resi.for_scale(scale, len(self.pyramid))

    def _upsampled(self, code: Tensor, scale: int) -> Tensor:
        side = self.pyramid.patch_nums[scale]
        h = code.transpose(1, 2).reshape(-1, self.channels, side, side)
        if scale != len(self.pyramid) - 1:
            h = F.interpolate(h, size=(self.side, self.side), mode="bicubic")
        return h

    def next_input(self, f_hat: Tensor, scale: int) -> Tensor:
        """Input of scale ``scale`` >= 1, before the word embedding: area down(f-hat of the scales before it).

        Args:
            f_hat: (B, C_vae, S, S) after scale - 1.

        Returns:
            (B, n_k, C_vae).
        """
        side = self.pyramid.patch_nums[scale]
        return F.interpolate(f_hat, size=(side, side), mode="area").flatten(2).transpose(1, 2)

    def nearest(self, residual: Tensor, scale: int) -> Tensor:
        """Token map nearest to the residual at a scale: (B, C_vae, S, S) -> int64 (B, n_k)."""
        if scale == len(self.pyramid) - 1:
            vectors = residual.flatten(2).transpose(1, 2)
        else:
            vectors = self.next_input(residual, scale)
        codebook = self.embedding.weight
        flat = vectors.reshape(-1, self.channels)
        distance = flat.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * flat @ codebook.T
        return distance.argmin(1).view(vectors.shape[:2])

    def encode(self, f: Tensor) -> list[Tensor]:
        """Token maps of a feature map f (B, C_vae, S, S): K int64 tensors (B, n_k)."""
        residual, tokens = f, []
        for scale in range(len(self.pyramid)):
            tokens.append(self.nearest(residual, scale))
            residual = residual - self.contribution(tokens[-1], scale)
        return tokens

    def f_hats(self, tokens: list[Tensor]) -> list[Tensor]:
        """f-hat after each scale: K tensors (B, C_vae, S, S)."""
        f_hat, all_scales = self.empty_f_hat(tokens[0].shape[0]), []
        for scale, map_tokens in enumerate(tokens):
            f_hat = self.added(f_hat, self.embedding(map_tokens), scale)
            all_scales.append(f_hat)
        return all_scales
