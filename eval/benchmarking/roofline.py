"""The least that a machine can take: bytes that must move, operations that must be done, and the time of both.

Formulae and what is left out of them: docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import sdvar
from sdvar.decoding.timing import Pass
from sdvar.models.linear import Linear


class Cost(NamedTuple):
    """What one pass takes at least.

    Attributes:
        bytes: read and written.
        operations: floating point, a multiplication and an addition are two.
    """

    bytes: int
    operations: int


class Ceilings(NamedTuple):
    """What a machine reached.

    Attributes:
        bytes_per_second: of a large copy, read and written bytes together.
        operations_per_second: of a large matrix product, by dtype name such as "bfloat16".
    """

    bytes_per_second: float
    operations_per_second: dict[str, float]


@dataclass(frozen=True)
class VARSize:
    """What the cost of a VAR depends on.

    Args:
        depth, width, hidden: blocks, C, width inside the MLP.
        codebook_size, latent_channels: V, C_vae.
        shared_adaln: one AdaLN projection for all blocks.
        block_bytes, head_bytes: of one number of the blocks (the KV cache as well), and of head, embeddings and
            the head's AdaLN.
    """

    depth: int
    width: int
    hidden: int
    codebook_size: int = 4096
    latent_channels: int = 32
    shared_adaln: bool = False
    block_bytes: int = 4
    head_bytes: int = 4

    @classmethod
    def of(cls, model: sdvar.VAR) -> VARSize:
        """The sizes of a model."""
        first = model.blocks[0]
        return cls(
            depth=model.depth,
            width=model.width,
            hidden=first.ffn.fc1.out_features,
            codebook_size=model.codebook_size,
            latent_channels=model.latent_channels,
            shared_adaln=model.shared_ada_lin is not None,
            block_bytes=first.attn.mat_qkv.weight.element_size(),
            head_bytes=model.head.weight.element_size(),
        )

    @property
    def block_weights(self) -> int:
        """Numbers in the matrices of one block without AdaLN: 4 C² of attention, 2 C hidden of the MLP."""
        return 4 * self.width**2 + 2 * self.width * self.hidden

    @property
    def adaln_weights(self) -> int:
        """Numbers in the AdaLN matrices of all blocks: 6 C² each, or once where they share it."""
        return 6 * self.width**2 * (1 if self.shared_adaln else self.depth)

    def cache_bytes(self, rows: int, tokens: int) -> int:
        """Bytes of the keys and values of some tokens in all layers."""
        return 2 * self.depth * rows * tokens * self.width * self.block_bytes


def pass_cost(size: VARSize, pyramid: sdvar.ScalePyramid, work: Pass) -> Cost:
    """What one pass takes at least; for ``first == last`` the conditioning of a decode."""
    width, rows = size.width, work.rows
    if work.first == work.last:
        head = 2 * width**2
        operations = 2 * rows * (size.adaln_weights + head)
        return Cost(size.adaln_weights * size.block_bytes + head * size.head_bytes, operations)
    tokens = pyramid.span_tokens(work.first, work.last)
    wanted = pyramid.span_tokens(work.logits_from, work.last)
    start = pyramid.offsets[work.visible_from]
    visible = sum(pyramid.tokens[k] * (pyramid.offsets[k + 1] - start) for k in range(work.first, work.last))
    head = width * size.codebook_size
    embedding = width * size.latent_channels
    moved = size.depth * size.block_weights * size.block_bytes
    moved += (head + embedding + tokens * width) * size.head_bytes  # the last are the positions'
    moved += size.cache_bytes(rows, pyramid.span_tokens(work.visible_from, work.first))  # keys read
    moved += size.cache_bytes(rows, tokens)  # keys written
    operations = size.depth * (2 * tokens * size.block_weights + 4 * width * visible)
    operations += 2 * tokens * embedding + 2 * wanted * head
    return Cost(moved, rows * operations)


def tokenizer_cost(tokenizer: sdvar.VQVAE, images: int) -> Cost:
    """What the decoder takes at least for some images: its weights read, the images written, its products."""
    meta = {key: value.to("meta") for key, value in tokenizer.state_dict().items()}
    side, dtype = tokenizer.pyramid.patch_nums[-1], tokenizer.quantize.embedding.weight.dtype
    f_hat = torch.empty(1, tokenizer.latent_channels, side, side, dtype=dtype, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        torch.func.functional_call(_FromFHat(tokenizer), {f"tokenizer.{k}": v for k, v in meta.items()}, (f_hat,))
    parts = (tokenizer.post_quant_conv, tokenizer.decoder)
    weights = sum(state_bytes(part) for part in parts)
    pixels = 3 * tokenizer.image_size**2 * f_hat.element_size()
    return Cost(weights + images * (pixels + f_hat.numel() * f_hat.element_size()), images * counter.get_total_flops())


class _FromFHat(nn.Module):
    def __init__(self, tokenizer: sdvar.VQVAE) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, f_hat: torch.Tensor) -> torch.Tensor:
        return self.tokenizer.decode_f_hat(f_hat)


def state_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights and buffers."""
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())


def held_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights and buffers, and of the copies of weights that its layers have made."""
    return state_bytes(model) + sum(layer.copy_bytes for layer in model.modules() if isinstance(layer, Linear))


def floor_seconds(cost: Cost, ceilings: Ceilings, dtype: torch.dtype) -> float:
    """The larger of the time that the bytes take and the time that the operations take in that dtype."""
    rate = ceilings.operations_per_second[dtype_name(dtype)]
    return max(cost.bytes / ceilings.bytes_per_second, cost.operations / rate)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of some costs."""
    costs = list(costs)
    return Cost(sum(cost.bytes for cost in costs), sum(cost.operations for cost in costs))


def dtype_name(dtype: torch.dtype) -> str:
    """ "bfloat16" for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")
