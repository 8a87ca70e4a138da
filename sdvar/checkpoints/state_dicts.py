"""State dicts inside training checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sdvar.checkpoints.errors import CheckpointError

VAR_KIND, TOKENIZER_KIND, UNKNOWN_KIND = "VAR", "tokenizer", "unknown"
# where training scripts put weights; the first of each kind is taken
PLACES = (("trainer", "var_wo_ddp"), ("trainer", "vae_local"), ("model",), ("state_dict",))
WRAPPERS = frozenset(("module", "_orig_mod"))  # parts of a key that data parallelism and torch.compile add


def kind_of(weights: Mapping[str, Tensor]) -> str:
    """VAR_KIND, TOKENIZER_KIND or UNKNOWN_KIND, by the names alone."""
    if any(key.startswith(("quantize.", "encoder.", "decoder.")) for key in weights):
        return TOKENIZER_KIND
    if any(key.startswith(("blocks.", "pos_1LC", "pos_start", "word_embed.", "class_emb.")) for key in weights):
        return VAR_KIND
    return UNKNOWN_KIND


def state_dicts(name: str, loaded: Any) -> dict[str, dict[str, Tensor]]:
    """All state dicts in a file's content, by place ("" for the whole), without the wrappers' parts of keys.

    Args:
        name: what messages call the file.
        loaded: tensors by name, or a mapping that holds such a mapping at one of `PLACES`; the rest of it is ignored.

    Raises:
        CheckpointError: if there is none, or an entry is not a named tensor with storage of its own size.
    """
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{name}: expected names and tensors, got {_outline(loaded)}; save the model's state_dict()"
        )
    found = {}
    for place in PLACES:
        value: Any = loaded
        for part in place:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values()):
            found[".".join(place)] = value
    if not found:
        if not any(isinstance(value, Tensor) for value in loaded.values()):
            places = ", ".join(".".join(place) for place in PLACES)
            raise CheckpointError(
                f"{name}: expected names and tensors, or a training checkpoint with them under one of {places}; it "
                f"holds {_outline(loaded)}. Save the model's state_dict()"
            )
        found[""] = loaded
    return {place: _unwrapped(f"{name} ({place})" if place else name, value) for place, value in found.items()}


def choose(name: str, loaded: Any, kind: str) -> tuple[str, dict[str, Tensor]]:
    """The state dict of one kind, and what messages call it.

    Raises:
        CheckpointError: if there is none; one single state dict is taken whatever it looks like.
    """
    found = state_dicts(name, loaded)
    matching = [place for place, weights in found.items() if kind_of(weights) == kind]
    if not matching and len(found) > 1:
        held = ", ".join(f"{place} ({kind_of(weights)})" for place, weights in found.items())
        raise CheckpointError(f"{name}: no {kind} in it; it holds {held}. Give the checkpoint of a {kind}")
    place = matching[0] if matching else next(iter(found))
    return (f"{name} ({place})" if place else name), found[place]


def _unwrapped(name: str, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    others = [f"{key} ({_type(value)})" for key, value in state.items() if not isinstance(value, Tensor)]
    others += [f"{key!r} as a name" for key in state if not isinstance(key, str)]
    if others:
        raise CheckpointError(
            f"{name}: expected names and tensors only, but it also holds {', '.join(others[:5])}; save the model's "
            "state_dict() alone"
        )
    weights: dict[str, Tensor] = {}
    for key, value in state.items():
        bare = ".".join(part for part in key.split(".") if part not in WRAPPERS)
        if bare in weights:
            raise CheckpointError(f"{name}: holds {bare} twice, once as {key}; save the state_dict() of one model")
        if value.layout == torch.strided and not value.is_meta:
            # A tensor expanded from a few bytes would take its full size as soon as it is copied.
            size, stored = value.numel() * value.element_size(), value.untyped_storage().nbytes()
            if size > stored:
                raise CheckpointError(
                    f"{name}: {key} of shape {tuple(value.shape)} takes {size:,} bytes, but only {stored:,} are stored "
                    "for it; save it with .contiguous()"
                )
        weights[bare] = value
    return weights


def _outline(value: Any) -> str:
    """What a value is, one level deep: 'epoch (int), trainer (dict of config, var)'."""
    if not isinstance(value, Mapping):
        return f"a {_type(value)}"
    parts = [
        f"{key} (dict of {', '.join(map(str, list(entry)[:3])) or 'nothing'})"
        if isinstance(entry, Mapping)
        else f"{key} ({_type(entry)})"
        for key, entry in list(value.items())[:5]
    ]
    return ", ".join(parts) or "nothing"


def _type(value: Any) -> str:
    return type(value).__name__
