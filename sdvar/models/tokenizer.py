"""The tokenizer: a convolutional VQVAE with a multi-scale residual quantiser, under the released key names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdvar.models.checks import check_range, check_shape
from sdvar.models.layers.convolution import Conv2d
from sdvar.models.layers.invariant import RowBlocks
from sdvar.models.quantizer import MultiScaleQuantizer
from sdvar.pyramid import ScalePyramid

GROUPS = 32  # of every group norm; channel counts must be multiples
# Images that the decoder takes at once. At 256 px more gain no speed, on a CPU not even two, and their activations
# would set the memory peak.
DECODED_TOGETHER = 16
CPU_PIXELS = 256 * 256  # at once, unless one image has more


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


class VQVAE(nn.Module):
    """Image tokenizer of VAR (Tian et al. 2024): encoder, multi-scale residual quantiser, decoder.

    Args:
        patch_nums: sides of the token maps, or a ScalePyramid; the last side is the side S of the feature map.
        codebook_size: V.
        latent_channels: C_vae.
        base_channels: channels at full resolution; a multiple of 32.
        channel_multipliers: one per resolution, full first; each after the first halves the resolution.
        res_blocks: residual blocks per resolution in the encoder (the decoder has one more).
        phi_sharing: see MultiScaleQuantizer.

    Images are square, of side ``image_size`` = S * 2 ** (len(channel_multipliers) - 1).
    """

    def __init__(
        self,
        patch_nums: ScalePyramid | Sequence[int],
        codebook_size: int = 4096,
        latent_channels: int = 32,
        base_channels: int = 160,
        channel_multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        res_blocks: int = 2,
        phi_sharing: int = 4,
    ) -> None:
        super().__init__()
        pyramid = patch_nums if isinstance(patch_nums, ScalePyramid) else ScalePyramid(tuple(patch_nums))
        self.image_size = pyramid.patch_nums[-1] * 2 ** (len(channel_multipliers) - 1)
        self.encoder: Encoder | None = Encoder(base_channels, channel_multipliers, res_blocks, latent_channels)
        self.decoder = Decoder(base_channels, channel_multipliers, res_blocks, latent_channels)
        self.quantize = MultiScaleQuantizer(pyramid, codebook_size, latent_channels, phi_sharing)
        self.quant_conv: nn.Conv2d | None = Conv2d(latent_channels, latent_channels, 3, padding=1)
        self.post_quant_conv = Conv2d(latent_channels, latent_channels, 3, padding=1)
        self._shared: tuple[tuple, RowBlocks] | None = None

    @property
    def pyramid(self) -> ScalePyramid:
        return self.quantize.pyramid

    @property
    def codebook_size(self) -> int:
        return self.quantize.embedding.num_embeddings

    @property
    def latent_channels(self) -> int:
        return self.quantize.channels

    @property
    def device(self) -> torch.device:
        return self.quantize.embedding.weight.device

    @property
    def decoded_together(self) -> int:
        """Images that the decoder takes at once."""
        on_cpu = self.device.type == "cpu"
        return min(DECODED_TOGETHER, max(1, CPU_PIXELS // self.image_size**2)) if on_cpu else DECODED_TOGETHER

    def drop_encoder(self) -> VQVAE:
        """Give up the encoder's memory, which decoding does not need. Returns the tokenizer."""
        self.encoder = self.quant_conv = None
        return self

    def features(self, images: Tensor) -> Tensor:
        """f: images (B, 3, H, W) in [-1, 1] -> (B, C_vae, S, S), before quantisation.

        Raises:
            ValueError: if the encoder was dropped.
        """
        if self.encoder is None or self.quant_conv is None:
            raise ValueError("the tokenizer's encoder was dropped (drop_encoder): load the tokenizer again to encode")
        return self.quant_conv(self.encoder(images))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> K token maps, int64 (B, n_k).

        Raises:
            ValueError: for another shape, or if the encoder was dropped.
        """
        side = self.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, side, side):
            raise ValueError(f"images: expected shape (B, 3, {side}, {side}), got {tuple(images.shape)}")
        return self.quantize.encode(self.features(images))

    def var_inputs(self, tokens: list[Tensor]) -> Tensor:
        """Teacher-forcing inputs of the VAR: the down-sampled f-hat before each scale after the first.

        Args:
            tokens: K int64 tensors (B, n_k).

        Returns:
            (B, L - n_0, C_vae).

        Raises:
            TypeError, ValueError: for other shapes or values outside the codebook.
        """
        self._check_tokens(tokens)
        quantizer = self.quantize
        f_hats = quantizer.f_hats(tokens[:-1]) if len(tokens) > 1 else []
        inputs = [quantizer.next_input(f_hat, scale) for scale, f_hat in enumerate(f_hats, start=1)]
        if not inputs:
            return quantizer.empty_f_hat(tokens[0].shape[0]).flatten(2).transpose(1, 2)[:, :0]
        return torch.cat(inputs, dim=1)

    def decode_f_hat(self, f_hat: Tensor) -> Tensor:
        """f-hat (B, C_vae, S, S) -> images (B, 3, H, W) in [-1, 1], in the dtype of f-hat.

        Outside of training an image has the same bits in every batch: images share a call of the decoder where that
        has been tried and gives what a call for each gives. In 16 bits a trial proves little, since most differences
        are rounded away, so each image is a call.
        """
        parts = []
        for part in f_hat.split(self.decoded_together):
            calls = [len(part)] if torch.is_grad_enabled() else self._calls(len(part))
            parts += [self._decode(images) for images in part.split(calls)]
        return torch.cat(parts).to(f_hat.dtype).contiguous().clamp(-1, 1)

    def _decode(self, f_hat: Tensor) -> Tensor:
        z = f_hat.to(self.post_quant_conv.weight.dtype, memory_format=torch.channels_last)
        return self.decoder(self.post_quant_conv(z))

    def _calls(self, images: int) -> list[int]:
        """Images in each call of the decoder, for so many of them."""
        weight = self.post_quant_conv.weight
        if self.quantize.side == 1:  # torch refuses to normalise a single position of a single image
            return [images]
        if images == 1 or weight.dtype.itemsize < 4:
            return [1] * images
        state = weight.data_ptr(), weight.dtype, torch.get_num_threads(), torch.backends.cudnn.allow_tf32
        if self._shared is None or self._shared[0] != state:
            shape = self.decoded_together, self.latent_channels, self.quantize.side, self.quantize.side
            f_hats = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32, device="cpu")

            def make():
                return lambda rows: self._decode(rows.view(-1, *shape[1:])).flatten(1)

            self._shared = state, RowBlocks(make, f_hats.to(self.device).flatten(1), blocks=(1,))
        return [size for _, size in self._shared[1].calls(images)]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_shared": None}  # it can be neither pickled nor copied

    @property
    def decoder_dtype(self) -> torch.dtype:
        """In which the decoder runs."""
        return self.post_quant_conv.weight.dtype

    def set_decoder_dtype(self, dtype: torch.dtype) -> VQVAE:
        """Run the decoder in this dtype; f-hat, on which all decoding depends, keeps its own. Returns the tokenizer."""
        for part in (self.post_quant_conv, self.decoder):
            part.to(dtype)
        return self

    def decode(self, tokens: list[Tensor]) -> Tensor:
        """K token maps, int64 (B, n_k) -> images (B, 3, H, W) in [-1, 1].

        Raises:
            TypeError, ValueError: for other shapes or values outside the codebook.
        """
        self._check_tokens(tokens)
        return self.decode_f_hat(self.quantize.f_hats(tokens)[-1])

    def _check_tokens(self, tokens: Sequence[Tensor]) -> None:
        counts = self.pyramid.tokens
        if len(tokens) != len(counts):
            raise ValueError(f"tokens: expected {len(counts)} token maps, one per scale, got {len(tokens)}")
        named = {f"tokens[{scale}]": ids for scale, ids in enumerate(tokens)}
        for (name, ids), count in zip(named.items(), counts):
            check_shape(name, ids, (len(tokens[0]), count))
        check_range(named, self.codebook_size - 1)
