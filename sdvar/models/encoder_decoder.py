"""The tokenizer's encoder and decoder: residual convolutional networks, under the released key names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdvar.models.layers.convolution import Conv2d

GROUPS = 32  # of every group norm; channel counts must be multiples


class GroupNorm(nn.GroupNorm):
    """A group norm that keeps the channels last, as the convolutions want them; torch's own on a GPU does not."""

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda or torch.is_grad_enabled() or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        n, channels, height, width = x.shape
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        grouped = x.permute(0, 2, 3, 1).view(n, height * width, self.num_groups, -1)
        variance, mean = torch.var_mean(grouped.to(wide), dim=(1, 3), correction=0, keepdim=True)
        scale = self.weight.to(wide).view(self.num_groups, -1) * (variance + self.eps).rsqrt()
        shift = self.bias.to(wide).view(self.num_groups, -1) - mean * scale
        normed = torch.addcmul(shift, grouped, scale).to(x.dtype)
        return normed.view(n, height, width, channels).permute(0, 3, 1, 2)


def group_norm(channels: int) -> GroupNorm:
    return GroupNorm(GROUPS, channels, eps=1e-6)


def silu(x: Tensor) -> Tensor:
    """SiLU, in the memory of ``x`` where nothing has to be kept for training."""
    return F.silu(x, inplace=not x.requires_grad)


class ResBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = nn.Identity() if in_channels == out_channels else Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        h = self.conv2(silu(self.norm2(h)))
        return h.add_(self.nin_shortcut(x)) if not h.requires_grad else h + self.nin_shortcut(x)


class SpatialAttention(nn.Module):
    """Single-head self-attention over the positions of a feature map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = Conv2d(channels, 3 * channels, 1)
        self.proj_out = Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1)  # (B, 1, HW, 3C)
        together = qkv.split(1) if qkv.device.type == "cpu" else (qkv,)  # of several a CPU's threads share an image
        h = torch.cat([F.scaled_dot_product_attention(*part.chunk(3, dim=-1)) for part in together])
        n, channels, *sides = x.shape
        return x + self.proj_out(h.view(n, *sides, channels).permute(0, 3, 1, 2))  # also of one image channels last


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution; attention only at the lowest."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, attention: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResBlock(in_channels if i == 0 else out_channels, out_channels) for i in range(blocks)
        )
        self.attn = nn.ModuleList(SpatialAttention(out_channels) for _ in range(blocks if attention else 0))
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        return x


class Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels)
        self.attn_1 = SpatialAttention(channels)
        self.block_2 = ResBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    def __init__(self, base: int, multipliers: Sequence[int], blocks: int, out_channels: int) -> None:
        super().__init__()
        widths = [base * m for m in (1, *multipliers)]
        self.conv_in = Conv2d(3, base, 3, padding=1)
        self.down = nn.ModuleList()
        for i in range(len(multipliers)):
            lowest = i == len(multipliers) - 1
            level = Level(widths[i], widths[i + 1], blocks, attention=lowest)
            if not lowest:
                level.downsample = Downsample(widths[i + 1])
            self.down.append(level)
        self.mid = Middle(widths[-1])
        self.norm_out = group_norm(widths[-1])
        self.conv_out = Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in cast("Iterable[Level]", self.down):
            h = level(h)
            if level.downsample is not None:
                h = level.downsample(h)
        return self.conv_out(silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    def __init__(self, base: int, multipliers: Sequence[int], blocks: int, in_channels: int) -> None:
        super().__init__()
        widths = [base * m for m in multipliers]
        self.conv_in = Conv2d(in_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList()  # numbered by resolution, full first, as the released keys are
        for i, width in enumerate(widths):
            lowest = i == len(widths) - 1
            level = Level(width if lowest else widths[i + 1], width, blocks + 1, attention=lowest)
            if i > 0:
                level.upsample = Upsample(width)
            self.up.append(level)
        self.norm_out = group_norm(widths[0])
        self.conv_out = Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(cast("Sequence[Level]", self.up)):
            h = level(h)
            if level.upsample is not None:
                h = level.upsample(h)
        return self.conv_out(silu(self.norm_out(h)))
