"""What a checkpoint file is, without loading its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sdvar.checkpoints.configuration import Weights, tokenizer_arguments, var_arguments, var_pyramid
from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.files import Source, name_of, read
from sdvar.checkpoints.filling import derived, empty_model
from sdvar.checkpoints.hub import local_file
from sdvar.checkpoints.state_dicts import TOKENIZER_KIND, VAR_KIND, kind_of, state_dicts
from sdvar.models.tokenizer import VQVAE
from sdvar.models.transformer import VAR
from sdvar.pyramid import ScalePyramid


@dataclass(frozen=True)
class Description:
    """One state dict of a file.

    Attributes:
        file: the source, and the place in it where it holds several.
        kind: "VAR", "tokenizer" or "unknown".
        megabytes: size of the file, in 10^6 bytes; None for a state dict in memory.
        depth, width, heads: of a VAR; a tokenizer's width is its channels at full resolution. None where unknown.
        pyramid: sides of the token maps; None where the file does not hold them.
        dtypes: of its tensors without the derived buffers, the most frequent first.
        parameters: numbers in those tensors.
        note: why it would not load as it is, or what else there is to say; "" for a good file.
    """

    file: str
    kind: str
    megabytes: float | None
    depth: int | None
    width: int | None
    heads: int | None
    pyramid: tuple[int, ...] | None
    dtypes: tuple[str, ...]
    parameters: int
    note: str


def inspect(source: Source) -> list[Description]:
    """Describes each state dict of a source. Reads names and shapes, and of the values only ``lvl_1L``.

    Raises:
        CheckpointError: if the source cannot be read or holds no tensors.
    """
    name = name_of(source)
    found = state_dicts(name, read(source, verify=False))
    megabytes = None if isinstance(source, Mapping) else local_file(source).stat().st_size / 1e6
    return [_describe(f"{name} ({place})" if place else name, weights, megabytes) for place, weights in found.items()]


def _describe(name: str, weights: Weights, megabytes: float | None) -> Description:
    kind, note = kind_of(weights), ""
    arguments: dict[str, Any] = {}
    pyramid = None
    try:
        if kind == VAR_KIND:
            arguments = var_arguments(name, weights)
            pyramid = var_pyramid(name, weights, None)
            empty_model(name, VAR, {**arguments, "patch_nums": pyramid}, weights)
        elif kind == TOKENIZER_KIND:
            arguments = tokenizer_arguments(name, weights)
            empty_model(name, VQVAE, {**arguments, "patch_nums": placeholder_pyramid(weights)}, weights)
        else:
            note = f"{len(weights)} tensors: {', '.join(list(weights)[:3])}, …"
    except CheckpointError as error:
        note = str(error).removeprefix(f"{name}: ")
    dtypes = Counter(value.dtype for key, value in weights.items() if not derived(key))
    return Description(
        file=name,
        kind=kind,
        megabytes=megabytes,
        depth=arguments.get("depth"),
        width=arguments.get("width", arguments.get("base_channels")),
        heads=arguments.get("heads"),
        pyramid=pyramid.patch_nums if pyramid else None,
        dtypes=tuple(str(dtype).removeprefix("torch.") for dtype, _ in dtypes.most_common()),
        parameters=sum(value.numel() for key, value in weights.items() if not derived(key)),
        note=note,
    )


def placeholder_pyramid(weights: Weights) -> ScalePyramid:
    """Stands for a tokenizer's pyramid, which its file does not hold; only the number of scales shows in a tensor."""
    hits = weights.get("quantize.ema_vocab_hit_SV", torch.empty(1, 0))
    return ScalePyramid((1,) * max(1, hits.shape[0] if hits.dim() else 1))
