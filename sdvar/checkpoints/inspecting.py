"""What a checkpoint file is, without loading its weights."""

from __future__ import annotations

from collections import Counter

import torch

from sdvar.checkpoints.configuration import Weights, tokenizer_arguments, var_arguments, var_pyramid
from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.files import read
from sdvar.checkpoints.filling import derived, empty_tokenizer, empty_var
from sdvar.checkpoints.hub import local_file
from sdvar.checkpoints.state_dicts import TOKENIZER_KIND, VAR_KIND, kind_of, state_dicts
from sdvar.pyramid import ScalePyramid

COLUMNS = ("file", "kind", "MB", "depth", "width", "heads", "pyramid", "dtype", "parameters")


def inspect(file: str) -> list[tuple[list[str], str]]:
    """Describes each state dict of a file. Reads names and shapes, and of the values only ``lvl_1L``.

    Args:
        file: see `load_var`.

    Returns:
        Per state dict a cell for each of `COLUMNS`, "-" where unknown, and a note: why it would not load as it is, or
        what else there is to say; "" for a good file. A tokenizer's width is its channels at full resolution. Buffers
        that follow from the configuration do not count for dtype and parameters.

    Raises:
        CheckpointError: if the file cannot be read or contains no tensors.
    """
    found = state_dicts(file, read(file, verify=False))
    megabytes = f"{local_file(file).stat().st_size / 1e6:,.1f}"
    described = []
    for place, weights in found.items():
        configuration, note = _configuration(weights)
        stored = [value for key, value in weights.items() if not derived(key)]
        dtypes = [str(dtype).removeprefix("torch.") for dtype, _ in Counter(v.dtype for v in stored).most_common()]
        name, parameters = f"{file} ({place})" if place else file, sum(value.numel() for value in stored)
        cells = [name, kind_of(weights), megabytes, *configuration, " + ".join(dtypes) or "-", f"{parameters:,}"]
        described.append((cells, f"{name}: {note}" if note else ""))
    return described


def _configuration(weights: Weights) -> tuple[list[str], str]:
    """Depth, width, heads and pyramid as far as they can be read, and the note."""
    kind, note = kind_of(weights), ""
    cells = dict.fromkeys(("depth", "width", "heads", "pyramid"), "-")
    try:
        if kind == VAR_KIND:
            arguments = var_arguments(weights)
            cells |= {key: str(arguments[key]) for key in ("depth", "width", "heads")}
            pyramid = var_pyramid(weights, None)
            cells["pyramid"] = " ".join(map(str, pyramid.patch_nums))
            empty_var(weights, pyramid)
        elif kind == TOKENIZER_KIND:
            cells["width"] = str(tokenizer_arguments(weights)["base_channels"])
            empty_tokenizer(weights, placeholder_pyramid(weights))
        else:
            note = f"{len(weights)} tensors: {', '.join(list(weights)[:3])}, …"
    except CheckpointError as error:
        note = str(error)
    return list(cells.values()), note


def placeholder_pyramid(weights: Weights) -> ScalePyramid:
    """Stands for a tokenizer's pyramid, which its file does not hold; only the number of scales shows in a tensor."""
    hits = weights.get("quantize.ema_vocab_hit_SV", torch.empty(1, 0))
    return ScalePyramid((1,) * max(1, hits.shape[0] if hits.dim() else 1))
