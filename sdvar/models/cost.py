"""The cost of a VAR's passes: bytes that must move, operations that must be done, memory that is taken.

Formulae and what is left out of them: docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from sdvar.models.layers.packing import Packed
from sdvar.models.protocol import Cost
from sdvar.models.quantized import QuantizedLinear
from sdvar.pyramid import ScalePyramid

# Kernels of a block, besides one of attention for each scale, and of all else in a pass
LAUNCHES, FUSED_LAUNCHES = (35, 10), (9, 7)


@dataclass(frozen=True)
class VARCost:
    """The cost of a VAR, by its sizes; see `sdvar.models.protocol.PassCosts`.

    Args:
        pyramid: the token maps.
        depth, width, hidden: blocks, C, width inside the MLP.
        codebook_size, latent_channels: V, C_vae.
        shared_adaln: one AdaLN projection for all blocks.
        block_bytes, matrix_bytes, adaln_bytes, head_bytes: of one number of the KV cache and inside the blocks; of
            the blocks' matrices; of their AdaLN; and of head, embeddings and the head's AdaLN.
        fused: whether the blocks run by the project's kernels.
    """

    pyramid: ScalePyramid
    depth: int
    width: int
    hidden: int
    codebook_size: int = 4096
    latent_channels: int = 32
    shared_adaln: bool = False
    block_bytes: int = 4
    matrix_bytes: int = 4
    adaln_bytes: int = 4
    head_bytes: int = 4
    fused: bool = False

    @property
    def block_weights(self) -> int:
        """Numbers in the matrices of one block without AdaLN: 4 C² of attention, 2 C hidden of the MLP."""
        return 4 * self.width**2 + 2 * self.width * self.hidden

    @property
    def adaln_weights(self) -> int:
        """Numbers in the AdaLN matrices of all blocks: 6 C² each, or once where they share it."""
        return 6 * self.width**2 * (1 if self.shared_adaln else self.depth)

    def class_prefix(self, classes: int) -> Cost:
        """Of the AdaLN matrices and the pass over scale 0, once per class."""
        head, first = 2 * self.width**2, self.span(classes, 0, 1)
        operations = 2 * classes * (self.adaln_weights + head)
        moved = self.adaln_weights * self.adaln_bytes + head * self.head_bytes
        return Cost(moved + first.bytes, operations + first.operations)

    def class_prefix_bytes(self) -> int:
        """Bytes of one class's start, AdaLN vectors, keys, values and logits of scale 0."""
        n_0 = self.pyramid.tokens[0]
        numbers = (n_0 + 2) * self.width * self.head_bytes + 6 * self.depth * self.width * self.adaln_bytes
        return numbers + self.cache_bytes(1, n_0) + n_0 * self.codebook_size * max(4, self.head_bytes)

    def begin(self, rows: int) -> Cost:
        """Of copying the class prefixes, read and written."""
        return Cost(2 * rows * self.class_prefix_bytes(), 0)

    def span(self, rows: int, first: int, last: int, visible_from: int = 0, logits_from: int | None = None) -> Cost:
        """Of one pass over the scales ``first`` <= k < ``last``, see `VAR.forward_span`."""
        pyramid, width = self.pyramid, self.width
        tokens = pyramid.span_tokens(first, last)
        wanted = pyramid.span_tokens(first if logits_from is None else logits_from, last)
        start = pyramid.offsets[visible_from]
        visible = sum(pyramid.tokens[k] * (pyramid.offsets[k + 1] - start) for k in range(first, last))
        head, embedding = width * self.codebook_size, width * self.latent_channels
        moved = self.depth * self.block_weights * self.matrix_bytes
        moved += (head + embedding + tokens * width) * self.head_bytes  # the last are the positions'
        moved += self.cache_bytes(rows, pyramid.span_tokens(visible_from, first))  # keys read
        moved += self.cache_bytes(rows, tokens)  # keys written
        operations = self.depth * (2 * tokens * self.block_weights + 4 * width * visible)
        operations += 2 * tokens * embedding + 2 * wanted * head
        return Cost(moved, rows * operations)

    def launches(self, first: int, last: int) -> int:
        """Kernels that a GPU is given in a pass over the scales ``first`` <= k < ``last``, about."""
        of_block, of_pass = FUSED_LAUNCHES if self.fused else LAUNCHES
        return self.depth * (of_block + last - first) + of_pass

    def cache_bytes(self, rows: int, tokens: int) -> int:
        """Bytes of the keys and values of ``tokens`` positions of each row in all layers."""
        return 2 * self.depth * rows * tokens * self.width * self.block_bytes

    def activation_bytes(self, rows: int, tokens: int) -> int:
        """Bytes that a pass allocates at most, without its logits: residual stream, its norms, the MLP."""
        return rows * tokens * (4 * self.width * self.head_bytes + 2 * self.hidden * self.block_bytes)


def state_bytes(module: nn.Module) -> int:
    """Bytes of a module's weights and buffers."""
    return sum(_bytes(value) for value in module.state_dict().values())


def shared_bytes(models: Iterable[object]) -> int:
    """Bytes of weights that several of the models hold, each counted once less than there are such models."""
    weights = [weight for model in models if isinstance(model, nn.Module) for weight in model.parameters()]
    distinct = {id(weight): weight for weight in weights}
    return sum(map(_bytes, weights)) - sum(map(_bytes, distinct.values()))


def bytes_per_weight(layer: QuantizedLinear | nn.Linear) -> int:
    """Bytes of one number of a linear layer's matrix, as it is kept."""
    return layer.weight_width if isinstance(layer, QuantizedLinear) else layer.weight.element_size()


def weight_bytes(module: nn.Module) -> int:
    """Bytes of a module's weights and buffers, and of the copies of weights that its layers have made."""
    return state_bytes(module) + sum(layer.copy_bytes for layer in module.modules() if isinstance(layer, Packed))


def pending_bytes(module: nn.Module) -> int:
    """Bytes of the copies of weights that a module's layers make when they first multiply."""
    layers = [layer for layer in module.modules() if isinstance(layer, Packed)]
    return sum(layer.weight.nbytes for layer in layers if layer.copies and not layer.copy_bytes)


def _bytes(values: Tensor) -> int:
    if is_traceable_wrapper_subclass(values):  # numbers and their scales
        names: list[str] = values.__tensor_flatten__()[0]
        return sum(_bytes(getattr(values, name)) for name in names)
    return values.numel() * values.element_size()
