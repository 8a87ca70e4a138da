"""What a checkpoint file is, without loading its weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from sdvar.checkpoints.configuration import (
    HOW_TO_GIVE_HEADS,
    Weights,
    heads_are_guessed,
    tokenizer_arguments,
    var_arguments,
    var_pyramid,
)
from sdvar.checkpoints.errors import CheckpointError, printable
from sdvar.checkpoints.filling import derived, empty_tokenizer, empty_var
from sdvar.checkpoints.reading.choosing import under
from sdvar.checkpoints.reading.files import read, stated_guidance, stated_heads, stated_rounding
from sdvar.checkpoints.reading.folders import INDEX, index_of, shards_of
from sdvar.checkpoints.reading.hub import local_file
from sdvar.checkpoints.reading.sources import chosen_path, name_of
from sdvar.checkpoints.reading.state_dicts import TOKENIZER_KIND, VAR_KIND, kind_of, rest, state_dicts
from sdvar.guidance import words
from sdvar.pyramid import ScalePyramid

MOST = 20  # rows of a file; one without a model may hold any number of groups of tensors
FEW = 5  # shapes that a note lists
COLUMNS = ("file", "kind", "MB", "depth", "width", "heads", "pyramid", "dtype", "parameters")


@dataclass(frozen=True)
class Inspected:
    """What a file holds.

    Attributes:
        rows: per state dict a cell for each of `COLUMNS`, "-" where unknown. A tokenizer's width is its channels at
            full resolution. Buffers that follow from the configuration do not count for dtype and parameters.
        notes: why a state dict would not load as it is, its tensors with their shapes, and what else is in the file.
    """

    rows: list[list[str]]
    notes: list[str]


def inspect(source: str, shapes: bool = False) -> Inspected:
    """Describes each state dict of a file. Reads names and shapes, and of the values only ``lvl_1L``.

    Args:
        source: see `load_var`.
        shapes: list every tensor instead of the first few.

    Raises:
        CheckpointError: if the file cannot be read or contains no tensors.
    """
    content = read(source, verify=False)
    name = name_of(source)
    found = state_dicts(name, content)
    shown = under(name, found, chosen_path(source))
    megabytes = f"{_size(source) / 1e6:,.1f}"
    rows, notes = [], []
    for state in shown[:MOST]:
        label, weights = state.named(name), state.tensors
        cells, problem = _configuration(weights, stated_heads(source))
        stored = [value for key, value in weights.items() if not derived(key)]
        dtypes = [str(dtype).removeprefix("torch.") for dtype, _ in Counter(v.dtype for v in stored).most_common()]
        parameters = sum(value.numel() for value in stored)
        rows.append([label, state.kind, megabytes, *cells, " + ".join(dtypes) or "-", f"{parameters:,}"])
        notes += [f"{label}: {problem}"] if problem else []
        if state.kind == VAR_KIND and (inside := stated_guidance(source)):
            notes.append(f"{label}: guidance inside for {words(inside)}: a draft whose passes have no null branch")
        if state.kind == VAR_KIND and (kind := stated_rounding(source)):
            notes.append(f"{label}: rounded to {kind}: a draft whose blocks run with weights rounded so")
        notes.append(f"{label}: {_tensors(weights, len(weights) if shapes else FEW)}")
    if len(shown) > MOST:
        notes.append(f"{name}: and {len(shown) - MOST} more groups of tensors")
    if chosen_path(source) is None and (others := rest(content, shown)):
        notes.append(f"{name}: also holds {', '.join(others)}")
    return Inspected([list(map(printable, row)) for row in rows], list(map(printable, notes)))


def _size(source: str) -> int:
    """Bytes of a file, or of all shards."""
    path = local_file(source)
    if path.is_dir():
        path = index_of(path, source)
    files = shards_of(path, source) if path.name.endswith(INDEX) else [path]
    return sum(file.stat().st_size for file in files)


def _tensors(weights: Weights, most: int) -> str:
    """How many tensors there are, and the shapes of the first."""
    shapes = [f"{key} {tuple(value.shape)}" for key, value in list(weights.items())[:most]]
    more = [f"and {len(weights) - most} more (--shapes lists them)"] * (len(weights) > most)
    return f"{len(weights)} tensor{'s' * (len(weights) != 1)}: {', '.join(shapes + more)}"


def _configuration(weights: Weights, stated: int | None) -> tuple[list[str], str]:
    """Depth, width, heads and pyramid as far as they can be read, and why it would not load or what is guessed."""
    kind, problem = kind_of(weights), ""
    cells = dict.fromkeys(("depth", "width", "heads", "pyramid"), "-")
    try:
        if kind == VAR_KIND:
            heads = stated if heads_are_guessed(weights) else None
            arguments = var_arguments(weights, heads)
            cells |= {key: str(arguments[key]) for key in ("depth", "width", "heads")}
            if heads is None and heads_are_guessed(weights):
                cells["heads"] += "?"
                problem = f"{arguments['heads']} heads are a guess, its width over 64; {HOW_TO_GIVE_HEADS}"
            pyramid = var_pyramid(weights, None)
            cells["pyramid"] = " ".join(map(str, pyramid.patch_nums))
            empty_var(weights, pyramid, heads)
        elif kind == TOKENIZER_KIND:
            cells["width"] = str(tokenizer_arguments(weights)["base_channels"])
            empty_tokenizer(weights, placeholder_pyramid(weights))
    except CheckpointError as error:
        problem = str(error)
    return list(cells.values()), problem


def placeholder_pyramid(weights: Weights) -> ScalePyramid:
    """Stands for a tokenizer's pyramid, which its file does not hold; only the number of scales shows in a tensor."""
    hits = weights.get("quantize.ema_vocab_hit_SV", torch.empty(1, 0))
    return ScalePyramid((1,) * max(1, hits.shape[0] if hits.dim() else 1))
