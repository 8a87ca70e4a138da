"""The tokenizer: a convolutional VQVAE with a multi-scale residual quantiser, under the released key names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sdvar.models.checks import check_range, check_shape
from sdvar.models.encoder_decoder import Decoder, Encoder
from sdvar.models.layers.convolution import Conv2d
from sdvar.models.layers.invariant import RowBlocks
from sdvar.models.quantizer import MultiScaleQuantizer
from sdvar.pyramid import ScalePyramid

# Images that the decoder takes at once. At 256 px more gain no speed, on a CPU not even two, and their activations
# would set the memory peak.
DECODED_TOGETHER = 16
CPU_PIXELS = 256 * 256  # at once, unless one image has more


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
