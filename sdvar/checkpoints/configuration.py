"""The configuration of a model, read off its tensors' names and shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.reading.state_dicts import HOW_TO_USE, REQUIRED, TOKENIZER_KIND, UNKNOWN_KIND, VAR_KIND, kind_of
from sdvar.pyramid import ScalePyramid

KNOWN_PYRAMIDS = {680: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16), 2240: (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)}
HEAD_WIDTH = 64  # of the released models; used only where no tensor gives the number of heads
SCALES = "blocks.0.attn.scale_mul_1H11"  # one per head, with QK-normalisation
HOW_TO_GIVE_HEADS = "give heads, or write it into a file: python -m sdvar.checkpoints convert IN OUT --heads N"

# in which lvl_1L may be: integers, and floats where a whole state dict was cast
COUNTING = (
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
)  # fmt: skip

Weights = Mapping[str, Tensor]


def var_arguments(weights: Weights, heads: int | None = None) -> dict[str, Any]:
    """Arguments of the `sdvar.VAR` that the tensors describe, but for its pyramid.

    Args:
        weights: tensors by their released names; they may be on the meta device.
        heads: the user's number of attention heads, if given; see `var_heads`.

    Raises:
        CheckpointError: if they do not describe one; without the weights' name, see `named`.
    """
    _expect(weights, VAR_KIND, REQUIRED[VAR_KIND])
    width = _shape(weights, "pos_1LC", 3)[2]
    return {
        "num_classes": _shape(weights, "class_emb.weight", 2)[0] - 1,
        "depth": _count(weights, "blocks"),
        "width": width,
        "heads": var_heads(weights, heads),
        "codebook_size": _shape(weights, "head.weight", 2)[0],
        "latent_channels": _shape(weights, "word_embed.weight", 2)[1],
        "mlp_ratio": _shape(weights, "blocks.0.ffn.fc1.weight", 2)[0] / width,
        "shared_adaln": "shared_ada_lin.1.weight" in weights,
        "qk_norm": SCALES in weights,
    }


def var_heads(weights: Weights, given: int | None) -> int:
    """The number of attention heads: from the attention scales of QK-normalisation, else as given, else a guess.

    Raises:
        CheckpointError: the tensors and the given number disagree, or it does not divide the width, or there is no
            guess; see `var_arguments`.
    """
    width = _shape(weights, "pos_1LC", 3)[2]
    held = _shape(weights, SCALES, 4)[1] if SCALES in weights else None
    if held and given and held != given:
        raise CheckpointError(f"heads is {held} in the file, but {given} was given; leave heads out")
    if held and width % held:
        raise CheckpointError(f"a width of {width} does not divide into {held} heads; the file is damaged")
    if given and width % given:
        raise CheckpointError(
            f"a width of {width} does not divide into {given} heads; give the number it was trained with"
        )
    if not held and not given and width % HEAD_WIDTH:
        raise CheckpointError(
            f"its number of heads is not in the file, which has no QK-normalisation, and its width of {width} is no "
            f"multiple of {HEAD_WIDTH}, from which it could be guessed; {HOW_TO_GIVE_HEADS}"
        )
    return held or given or width // HEAD_WIDTH


def heads_are_guessed(weights: Weights) -> bool:
    """Whether no tensor tells the number of heads."""
    return SCALES not in weights


def tokenizer_arguments(weights: Weights) -> dict[str, Any]:
    """Arguments of the `sdvar.VQVAE` that the tensors describe, but for its pyramid; see `var_arguments`."""
    _expect(weights, TOKENIZER_KIND, REQUIRED[TOKENIZER_KIND])
    base = _shape(weights, "encoder.conv_in.weight", 4)[0]
    keys = [f"encoder.down.{i}.block.0.conv1.weight" for i in range(_count(weights, "encoder.down"))]
    _expect(weights, TOKENIZER_KIND, keys or ["encoder.down.0.block.0.conv1.weight"])
    phis = _count(weights, "quantize.quant_resi.qresi_ls")
    codebook_size, latent_channels = _shape(weights, "quantize.embedding.weight", 2)
    return {
        "codebook_size": codebook_size,
        "latent_channels": latent_channels,
        "base_channels": base,
        "channel_multipliers": [_shape(weights, key, 4)[0] // base for key in keys],
        "res_blocks": _count(weights, "encoder.down.0.block"),
        "phi_sharing": phis or int("quantize.quant_resi.qresi.weight" in weights),
    }


def var_pyramid(weights: Weights, given: ScalePyramid | None) -> ScalePyramid:
    """The pyramid of a VAR: from ``lvl_1L``, else from a released model's number of positions, else as given.

    Raises:
        CheckpointError: if there is none, or the tensors and the given one disagree; see `var_arguments`.
    """
    length = _shape(weights, "pos_1LC", 3)[1]
    held = None
    if "lvl_1L" in weights and not weights["lvl_1L"].is_meta:
        held = _pyramid_of_levels(weights["lvl_1L"])
    elif length in KNOWN_PYRAMIDS:
        held = ScalePyramid(KNOWN_PYRAMIDS[length])
    if held and given and held != given:
        raise CheckpointError(
            f"patch_nums is {held.patch_nums} in the file, but {given.patch_nums} was given; leave patch_nums "
            "out or give the file's"
        )
    pyramid = held or given
    if pyramid is None:
        raise CheckpointError(f"the pyramid of its {length} tokens is not in the file; give patch_nums")
    if pyramid.length != length:
        whose = "lvl_1L" if held else "the given patch_nums"
        raise CheckpointError(
            f"pos_1LC has {length} positions, but {whose} {pyramid.patch_nums} makes {pyramid.length}; give "
            "the pyramid that the model was trained on"
        )
    return pyramid


def given_pyramid(patch_nums: Sequence[int] | ScalePyramid | None) -> ScalePyramid | None:
    """The user's ``patch_nums`` as a pyramid; errors as `ScalePyramid`."""
    if patch_nums is None or isinstance(patch_nums, ScalePyramid):
        return patch_nums
    return ScalePyramid(tuple(patch_nums))


def _expect(weights: Weights, kind: str, keys: Sequence[str]) -> None:
    missing = [key for key in keys if key not in weights]
    if missing:
        found = kind_of(weights)
        advice = "" if found in (kind, UNKNOWN_KIND) else f". It is a {found}: {HOW_TO_USE[found]}"
        some = ", ".join(list(weights)[:5]) or "no tensors"
        raise CheckpointError(
            f"not a {kind} of the released format: {', '.join(missing[:5])} missing; it holds {some}, …{advice}"
        )


def _shape(weights: Weights, key: str, rank: int) -> tuple[int, ...]:
    shape = tuple(weights[key].shape)
    if len(shape) != rank or 0 in shape:
        raise CheckpointError(
            f"{key} has the shape {shape}, expected {rank} dimensions, none of them 0; the file is damaged or "
            "of another model"
        )
    return shape


def _count(weights: Weights, prefix: str) -> int:
    """How many numbered parts follow a prefix; they must be 0, 1, 2 …"""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    found = {int(match[1]) for match in map(pattern.match, weights) if match}
    lacking = sorted(set(range(len(found))) - found)
    if lacking:
        raise CheckpointError(
            f"{prefix}.{lacking[0]} missing, though there is {prefix}.{max(found)}; the file is incomplete, "
            "download or save it again"
        )
    return len(found)


def _pyramid_of_levels(levels: Tensor) -> ScalePyramid:
    """lvl_1L holds the scale of each position: n_0 zeros, n_1 ones …"""
    if levels.layout != torch.strided or levels.is_quantized or levels.dtype not in COUNTING:
        raise CheckpointError(
            f"lvl_1L is of {levels.dtype} ({levels.layout}), expected dense integers; leave it out and give patch_nums"
        )
    scales, counts = levels.flatten().unique_consecutive(return_counts=True)
    sides = [math.isqrt(count) for count in counts.tolist()]
    rising = sides == sorted(sides) and [side * side for side in sides] == counts.tolist()
    if not sides or not rising or scales.tolist() != list(range(len(sides))):
        raise CheckpointError(
            f"lvl_1L does not number the tokens of a pyramid: it holds {counts.tolist()[:5]} … positions of "
            f"the scales {scales.tolist()[:5]} …, expected squares that do not shrink for 0, 1, 2 …; the file is "
            "damaged, download or save it again"
        )
    return ScalePyramid(tuple(sides))
