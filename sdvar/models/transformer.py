"""The VAR transformer: next-scale prediction with adaptive layer norm, under the released key names."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from sdvar.kernels.selection import fused_blocks, fused_head
from sdvar.models import cost
from sdvar.models.blocks import AdaLNProjection, Block, HeadNorm, layer_norm
from sdvar.models.checks import check_range, check_shape
from sdvar.models.kv_cache import CacheWindow, KVCache
from sdvar.models.layers.attention import block_causal, check_kernel
from sdvar.models.layers.initial import Embedding
from sdvar.models.layers.linear import Linear
from sdvar.models.running.base import NextScaleBase
from sdvar.pyramid import ScalePyramid


class Conditioning(NamedTuple):
    """What a pass needs of the class, computed once per class.

    Attributes:
        start: (n, n_0, C) class embedding plus start position, the input of scale 0.
        blocks: (n, depth, 6, 1, C) gains and AdaLN scales and shifts of attention and MLP.
        head: (n, 2, 1, C) AdaLN scale and shift before the head.
    """

    start: Tensor
    blocks: Tensor
    head: Tensor


class VAR(nn.Module, NextScaleBase):
    """Visual autoregressive transformer (Tian et al. 2024).

    Args:
        patch_nums: sides of the token maps, or a ScalePyramid.
        num_classes: classes; the label ``num_classes`` is the null class.
        depth, width, heads: blocks, C, attention heads.
        codebook_size, latent_channels: V and C_vae of the tokenizer.
        mlp_ratio: hidden width of the MLP over C.
        shared_adaln: one AdaLN projection for all blocks (the 512 px model).
        qk_norm: cosine attention with a learned scale per head; else attention is scaled by 0.25 / sqrt(d).
        drop_label: chance that training replaces a label by the null class; nothing is dropped in eval mode.

    The residual stream, the layer norms, the head and its AdaLN stay in float32 (float64 for float64 weights) whatever
    the dtype of the blocks' weights, as in the released code.
    """

    lvl_1L: Tensor

    def __init__(
        self,
        patch_nums: ScalePyramid | Sequence[int],
        num_classes: int = 1000,
        depth: int = 16,
        width: int = 1024,
        heads: int = 16,
        codebook_size: int = 4096,
        latent_channels: int = 32,
        mlp_ratio: float = 4.0,
        shared_adaln: bool = False,
        qk_norm: bool = True,
        drop_label: float = 0.1,
    ) -> None:
        super().__init__()
        self.pyramid = patch_nums if isinstance(patch_nums, ScalePyramid) else ScalePyramid(tuple(patch_nums))
        self.num_classes, self.depth, self.width, self.heads = num_classes, depth, width, heads
        self.drop_label = drop_label
        length = self.pyramid.length
        self.word_embed = Linear(latent_channels, width)
        self.class_emb = Embedding(num_classes + 1, width)
        self.pos_start = nn.Parameter(torch.zeros(1, self.pyramid.tokens[0], width))
        self.pos_1LC = nn.Parameter(torch.zeros(1, length, width))
        self.lvl_embed = Embedding(len(self.pyramid), width)
        # computed on the CPU: for the meta device torch would import its compiler, some seconds
        scales = self.pyramid.scale_of_position(device=torch.device("cpu"))
        bias = torch.zeros(1, 1, length, length, device="cpu").masked_fill(scales[:, None] < scales, -math.inf)
        self.register_buffer("lvl_1L", scales[None].to(self.pos_1LC.device))
        # a key of the released files; passes build their own mask
        self.register_buffer("attn_bias_for_masking", bias.to(self.pos_1LC.device))
        self.shared_ada_lin = AdaLNProjection(width, 6) if shared_adaln else None
        self.hidden = round(width * mlp_ratio)
        blocks = nn.ModuleList(Block(width, heads, self.hidden, shared_adaln, qk_norm) for _ in range(depth))
        self.blocks = cast("Sequence[Block]", blocks)
        self.head_nm = HeadNorm(width)
        self.head = Linear(width, codebook_size)

    @property
    def codebook_size(self) -> int:
        return self.head.out_features

    @property
    def latent_channels(self) -> int:
        return self.word_embed.in_features

    @property
    def device(self) -> torch.device:
        return self.pos_1LC.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the blocks' weights and of the cache."""
        return self.blocks[0].attn.mat_qkv.weight.dtype if self.depth else self.pos_1LC.dtype

    @property
    def logits_dtype(self) -> torch.dtype:
        """float64 for float64 weights, else float32."""
        return torch.float64 if self.pos_1LC.dtype == torch.float64 else torch.float32

    def cost(self) -> cost.VARCost:
        """What its passes cost."""
        return cost.VARCost(
            pyramid=self.pyramid,
            depth=self.depth,
            width=self.width,
            hidden=self.hidden,
            codebook_size=self.codebook_size,
            latent_channels=self.latent_channels,
            shared_adaln=self.shared_ada_lin is not None,
            block_bytes=self.dtype.itemsize,
            matrix_bytes=cost.bytes_per_weight(self.blocks[0].attn.mat_qkv) if self.depth else self.dtype.itemsize,
            adaln_bytes=self._adaln_bytes(),
            head_bytes=self.head.weight.element_size(),
            fused=self.block_kernels(self.device) is not None,
        )

    def _adaln_bytes(self) -> int:
        if self.shared_ada_lin is not None:
            return self.shared_ada_lin.matrix.element_size()
        return self.blocks[0].ada_lin.matrix.element_size() if self.depth else self.dtype.itemsize

    def weight_bytes(self) -> int:
        """Bytes of weights and buffers, and of the copies that the layers have made of weights."""
        return cost.weight_bytes(self)

    def pending_bytes(self) -> int:
        """Bytes of the copies of weights that the first passes are still to make."""
        return cost.pending_bytes(self)

    def new_cache(self, rows: int, scales: int | None = None) -> KVCache:
        """An empty KV cache for ``rows`` rows and the first ``scales`` scales (None: all), of the blocks' dtype."""
        length = self.pyramid.offsets[len(self.pyramid) if scales is None else scales]
        return KVCache(self.depth, rows, self.heads, length, self.width // self.heads, self.dtype, self.device)

    def check_attention(self, kernel: str, device: torch.device) -> None:
        """Raise ValueError unless that device can run the attention kernel; the message lists those it can."""
        check_kernel(kernel, device, self.dtype, self.width // self.heads)

    def set_attention(self, kernel: str) -> VAR:
        """Run attention by one kernel, see `sdvar.models.layers.attention.KERNELS`; "auto" leaves the choice to torch.

        Returns:
            The model.

        Raises:
            ValueError: if this machine cannot run it; the message lists those it can.
        """
        self.check_attention(kernel, self.device)
        for block in self.blocks:
            block.attn.kernel = kernel
        return self

    def graph_state(self) -> Hashable:
        """As the base says; the weights of a block move together."""
        layers = [block.attn for block in self.blocks]
        kernels = self.block_kernels(self.device) is not None, self.head_kernel(self.device) is not None
        return self.device, self.dtype, *kernels, *((layer.kernel, _address(layer.mat_qkv.weight)) for layer in layers)

    def block_kernels(self, device: torch.device) -> ModuleType | None:
        """As the base says."""
        if not self.depth or self.pos_1LC.dtype != torch.float32:
            return None
        return fused_blocks(device, self.dtype, self.width, self.heads)

    def head_kernel(self, device: torch.device) -> Callable[..., Any] | None:
        """As the base says; it runs where blocks run by kernels too."""
        if self.head.weight.dtype != torch.float32 or self.block_kernels(device) is None:
            return None
        return fused_head(device, self.width, self.codebook_size)

    def _kernels_for(self, x: Tensor) -> ModuleType | None:
        """Those of `block_kernels`, unless training, the compiler or autocast wants to see each operation."""
        watched = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type)
        return None if watched else self.block_kernels(x.device)

    def _apply(self, *arguments, **keywords) -> VAR:  # moves and converts the weights
        self.release()
        return super()._apply(*arguments, **keywords)

    def condition(self, labels: Tensor) -> Conditioning:
        """All that depends on the class only: labels int64 (n,) -> Conditioning of n rows."""
        embedded = self.class_emb(labels)
        shared = None if self.shared_ada_lin is None else self.shared_ada_lin(embedded)
        blocks = [block.modulation(embedded, shared) for block in self.blocks]
        return Conditioning(
            start=embedded[:, None] + self.pos_start,
            blocks=torch.stack(blocks, dim=1) if blocks else embedded.new_empty(len(labels), 0, 6, 1, self.width),
            head=self.head_nm.ada_lin(embedded),
        )

    def forward_span(
        self,
        conditioning: Conditioning,
        inputs: Tensor,
        first: int,
        last: int,
        cache: KVCache | None = None,
        rows: Tensor | None = None,
        visible_from: int = 0,
        logits_from: int | None = None,
    ) -> Tensor:
        """Logits of the scales ``first`` <= k < ``last`` in one pass with block-causal attention.

        Args:
            conditioning: of the n rows.
            inputs: (n, tokens of those scales without scale 0, C_vae), see VQVAE.var_inputs; scale 0 takes the
                conditioning's start instead.
            cache: contains the keys of the scales ``visible_from`` .. ``first`` and receives those of the span. Without
                one, ``first`` must equal ``visible_from``.
            rows: int64 (n,) rows of the cache that the pass uses; None for all.
            visible_from: first scale that may be attended to.
            logits_from: the first scale whose logits are wanted (``first`` if None); the others only fill the cache.

        Returns:
            (n, tokens of the scales from ``logits_from``, V), float32 (float64 for float64 weights).
        """
        pyramid = self.pyramid
        x = self.word_embed(inputs.to(self.word_embed.weight.dtype))
        if first == 0:
            x = torch.cat((conditioning.start, x), dim=1)
        positions = pyramid.span(first, last)
        x = x + self.lvl_embed(self.lvl_1L[:, positions]) + self.pos_1LC[:, positions]
        visibility = block_causal(pyramid, first, last, visible_from, x.device)
        offsets = pyramid.offsets
        window = None if cache is None else CacheWindow(rows, offsets[visible_from], offsets[first], offsets[last])
        kernels = self._kernels_for(x)
        for layer, block in enumerate(self.blocks):
            kept = None if cache is None else cache.layer(layer)
            x = block(x, conditioning.blocks[:, layer], visibility, kept, window, kernels)
        if logits_from is not None:
            x = x[:, offsets[logits_from] - offsets[first] :]
        return self.logits(x, conditioning)

    def logits(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        """Head: hidden (n, T, C) -> logits (n, T, V), in the head's own precision."""
        scale, shift = conditioning.head.to(self.head.weight.dtype).unbind(1)
        kernels = self._kernels_for(x)
        if kernels and self.head.weight.dtype == torch.float32:
            n, length, _ = x.shape
            h = kernels.modulated(x.contiguous(), scale, shift, torch.float32)
            return self._head_product(h, n * length).view(n, length, -1)
        # float32 even under autocast: the released code computes the logits in full precision
        with torch.autocast(x.device.type, enabled=False):
            h = layer_norm(x.to(self.head.weight.dtype)) * (1 + scale) + shift
            logits = self.head(h)
        return logits if logits.dtype == torch.float64 else logits.float()

    def _head_product(self, h: Tensor, rows: int) -> Tensor:
        """The head of the first ``rows`` rows of h, float32 (rows or more, C)."""
        # with TF32 allowed torch's product has the accuracy that was asked for, in less time
        product = None if torch.backends.cuda.matmul.allow_tf32 else self.head_kernel(h.device)
        return self.head(h)[:rows] if product is None else product(h[:rows], self.head.weight, self.head.bias)

    def forward(self, labels: Tensor, inputs: Tensor) -> Tensor:
        """Teacher-forced logits of all scales.

        Args:
            labels: int64 (B,), 0 .. num_classes; ``num_classes`` is the null class.
            inputs: (B, L - n_0, C_vae), see VQVAE.var_inputs.

        Returns:
            (B, L, V), float32 (float64 for float64 weights).

        Raises:
            TypeError, ValueError: naming the argument, what was given and what is allowed.
        """
        check_shape("labels", labels, (labels.shape[0] if labels.ndim else -1,))
        check_range({"labels": labels}, self.num_classes)
        expected = (labels.shape[0], self.pyramid.length - self.pyramid.tokens[0], self.latent_channels)
        if inputs.shape != expected:
            raise ValueError(f"inputs: expected shape {expected}, see VQVAE.var_inputs, got {tuple(inputs.shape)}")
        if self.training and self.drop_label > 0:
            dropped = torch.rand(labels.shape, device=labels.device) < self.drop_label
            labels = torch.where(dropped, self.num_classes, labels)
        return self.forward_span(self.condition(labels), inputs, 0, len(self.pyramid))

    @torch.no_grad()
    def init_weights(self, adaln_gain: float = 1e-5, adaln_scale: float = 0.5, head_scale: float = 0.02) -> None:
        """Initial weights for training: truncated normals, small gains so that every block starts near the identity."""
        std = math.sqrt(1 / self.width / 3)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=std)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    module.bias.zero_()
        for table in (self.pos_start, self.pos_1LC):
            nn.init.trunc_normal_(table, std=std)
        self.head.weight.mul_(head_scale)
        self.head_nm.ada_lin.matrix.mul_(adaln_scale)
        for block in self.blocks:
            block.attn.proj.weight.div_(math.sqrt(2 * self.depth))
            block.ffn.fc2.weight.div_(math.sqrt(2 * self.depth))
        if self.shared_ada_lin is not None:
            projections = [self.shared_ada_lin.matrix.view(6, -1)]
            projections += [block.ada_gss.view(6, -1) for block in self.blocks]
        else:
            projections = [block.ada_lin.matrix.view(6, -1) for block in self.blocks]
        for parts in projections:
            parts[:2].mul_(adaln_gain)
            parts[2:].mul_(adaln_scale)


def _address(weight: Tensor) -> int:
    """Where its numbers are; those of rounded weights are in tensors of their own."""
    return id(weight) if is_traceable_wrapper_subclass(weight) else weight.data_ptr()
