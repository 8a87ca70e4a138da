"""A checkpoint of any kind -> a safetensors file of one model in one precision."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.filling import derived
from sdvar.checkpoints.inspecting import placeholder_pyramid
from sdvar.checkpoints.loading import load_full_var, load_tokenizer
from sdvar.checkpoints.reading.choosing import under
from sdvar.checkpoints.reading.files import GUIDANCE, HEADS, ROUNDED, SUMS, listed, read, stated_heads
from sdvar.checkpoints.reading.sources import Source, chosen_path, name_of
from sdvar.checkpoints.reading.state_dicts import UNKNOWN_KIND, VAR_KIND, state_dicts
from sdvar.guidance import plain
from sdvar.system.atomic import replacing


def convert(
    source: Source,
    out: Path,
    dtype: torch.dtype = torch.float32,
    kind: str | None = None,
    patch_nums: Sequence[int] | None = None,
    overwrite: bool = False,
    heads: int | None = None,
) -> None:
    """Writes what `load_var` or `load_tokenizer` makes of a source, and reads it back to compare every number.

    The file appears under its name only when it is complete and compared.

    Args:
        source: see `load_var`.
        out: a ``.safetensors`` file.
        dtype: as in `load_var` and `load_tokenizer`: a tokenizer stays in float32 unless float64 is asked for.
        kind: "VAR" or "tokenizer", where the source holds both.
        patch_nums: the pyramid of a VAR whose file does not hold it; the written file does.
        overwrite: replace ``out`` if it exists.
        heads: attention heads of a VAR whose file does not hold them; the written file states them.

    Raises:
        CheckpointError: the source cannot be loaded, ``out`` is not a file name to write to, or the file read back
            differs.
        OSError: ``out`` cannot be written.
    """
    _check_out(out, overwrite)
    stated: dict[str, str] = {}
    content = read(source, verify=False)
    kind, weights = _chosen(name_of(source), content, kind, chosen_path(source))
    if kind == VAR_KIND:
        model = load_full_var(source, patch_nums, dtype=dtype, heads=heads)
        tensors = model.state_dict()
        if heads or stated_heads(source):
            stated[HEADS] = str(model.heads)
        if model.guidance_inside:
            stated[GUIDANCE] = json.dumps(plain(model.guidance_inside))
        if model.rounded_to:
            stated[ROUNDED] = model.rounded_to
    else:
        tensors = load_tokenizer(source, placeholder_pyramid(weights), dtype=dtype).state_dict()
        # derived buffers record only the number of scales, which may be unknown
        tensors = {key: value for key, value in tensors.items() if key in weights or not derived(key)}
    with replacing(out) as stream:
        stream.write(save(tensors, metadata={"format": "pt"} | stated))
        stream.flush()
        read_back = load_file(stream.name)
        differing = [key for key, value in tensors.items() if not _same(value, read_back.get(key))]
        if differing or len(read_back) != len(tensors):
            raise CheckpointError(
                f"{out}: the file read back differs from what was written ({', '.join(differing[:5])}); it was "
                "removed. Check the disk"
            )


def _check_out(out: Path, overwrite: bool) -> None:
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out}: the name of the file to write must end in .safetensors")
    if not out.parent.is_dir():
        raise CheckpointError(f"{out}: the folder {out.parent} does not exist; make it first")
    if out.exists() and (out.is_dir() or not overwrite):
        raise CheckpointError(f"{out}: exists; choose another name or give --overwrite to replace the file")
    if listed(out):
        raise CheckpointError(
            f"{out}: {out.parent / SUMS} lists the SHA-256 of another file of this name; choose another name "
            "or remove it from the list"
        )


def _chosen(name: str, content: Any, kind: str | None, path: str | None) -> tuple[str, dict[str, Tensor]]:
    """The kind of the state dict to convert, and its tensors."""
    found = under(name, state_dicts(name, content), path)
    complete = [state for state in found if state.complete] or [state for state in found if state.kind != UNKNOWN_KIND]
    kinds = dict.fromkeys(state.kind for state in complete)
    if not kinds or (kind and kind not in kinds):
        held = ", ".join(kinds) or f"{', '.join(list(found[0].tensors)[:5])}, …"
        raise CheckpointError(
            f"{name}: no {kind or 'VAR and no tokenizer'} of the released format in it; it holds {held}. Give a "
            "file whose keys are the released ones"
        )
    if kind is None and len(kinds) > 1:
        raise CheckpointError(f"{name}: holds a VAR and a tokenizer; choose with --kind var or --kind tokenizer")
    kind = kind or next(iter(kinds))
    return kind, next(state.tensors for state in complete if state.kind == kind)


def _same(written: Tensor, read_back: Tensor | None) -> bool:
    return read_back is not None and written.dtype == read_back.dtype and torch.equal(written, read_back)
