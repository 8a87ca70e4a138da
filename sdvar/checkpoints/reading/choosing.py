"""Which of the state dicts in a file is meant: the user's choice, or a stated rule; never a silent guess."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdvar.checkpoints.errors import CheckpointError, printable
from sdvar.checkpoints.reading.state_dicts import UNKNOWN_KIND, StateDict, outline, state_dicts

AVERAGES = re.compile(r"ema|swa|avg|average[ds]?|averaging|shadow", re.IGNORECASE)
USUAL = ("model", "state_dict")  # where training scripts put what they train

log = logging.getLogger("sdvar.checkpoints")


def choose(name: str, loaded: Any, kind: str, path: str | None = None) -> tuple[str, dict[str, Tensor]]:
    """The state dict of one kind, and what messages call it.

    Args:
        name: what messages call the file.
        loaded: what it holds.
        kind: VAR_KIND or TOKENIZER_KIND.
        path: which one, as the user gives it after ``::``.

    Raises:
        CheckpointError: there is none, or there are several and neither ``path`` nor a rule says which. A single state
            dict is taken whatever it looks like.
    """
    found = under(name, state_dicts(name, loaded), path)
    matching = _distinct([state for state in found if state.kind == kind])
    matching = [state for state in matching if state.complete] or matching[:1]
    if not matching:
        if len(found) > 1:
            held = _listed(found) if any(state.kind != UNKNOWN_KIND for state in found) else outline(loaded)
            raise CheckpointError(f"{name}: no {kind} in it; it holds {held}. Give the checkpoint of a {kind}")
        matching = found
    chosen = matching[0] if len(matching) == 1 else _preferred(name, matching)
    for key, value in chosen.tensors.items():
        _check_stored(chosen.named(name), key, value)
    return chosen.named(name), chosen.tensors


def _distinct(found: Sequence[StateDict]) -> list[StateDict]:
    """Without those that are the same tensors under another path."""
    kept: dict[tuple[Any, ...], StateDict] = {}
    for state in found:
        stored = sorted((key, _memory(value)) for key, value in state.tensors.items())
        kept.setdefault((state.kind, *stored), state)
    return list(kept.values())


def _memory(value: Tensor) -> tuple[int, ...]:
    if value.layout != torch.strided or value.is_meta:
        return (id(value),)
    return (value.data_ptr(), *value.shape)


def under(name: str, found: list[StateDict], path: str | None) -> list[StateDict]:
    """The state dicts at a path; else those below it; else those whose path ends with it; without a path all."""
    if path is None:
        return found
    wanted = f".{path.strip('.')}."
    matches: tuple[Callable[[str], bool], ...] = (
        lambda place: place == wanted,
        lambda place: place.startswith(wanted),
        lambda place: place.endswith(wanted),
    )
    for match in matches:
        at = [state for state in found if match(f".{state.path}.") or match(f".{state.wrapped}.")]
        if at:
            return at
    raise CheckpointError(f"{name}: nothing at {path!r} in it; it holds {_listed(found)}")


def _preferred(name: str, found: Sequence[StateDict]) -> StateDict:
    """The one of several of a kind that a rule names; says so in a line.

    Raises:
        CheckpointError: no rule names one.
    """
    rules = {
        "the only one that is no moving average": lambda path: not any(map(_is_average, path.split("."))),
        f"the only one under {' or '.join(USUAL)}": lambda path: path.split(".")[0] in USUAL,
    }
    left, kind = list(found), found[0].kind
    held = ", ".join(state.path or "the whole file" for state in found)
    for rule, holds in rules.items():
        left = [state for state in left if holds(state.path)] or left
        if len(left) == 1:
            taken = left[0].path or "the whole file"
            another = next(state for state in found if state is not left[0]).named(name)
            log.warning(
                printable(f"{name}: holds {len(found)} {kind}s ({held}); taken: {taken}, {rule}. Another: {another}")
            )
            return left[0]
    raise CheckpointError(f"{name}: holds {len(found)} {kind}s: {held}; choose one as {left[0].named(name)}")


def _is_average(part: str) -> bool:
    return any(AVERAGES.fullmatch(word) for word in re.split(r"[^a-zA-Z]|(?<=[a-z])(?=[A-Z])", part))


def _listed(found: Sequence[StateDict]) -> str:
    shown = [f"{state.path or 'the whole file'} ({state.kind})" for state in found[:8]]
    return ", ".join(shown + ["…"] * (len(found) > 8))


def _check_stored(name: str, key: str, value: Tensor) -> None:
    """A tensor expanded from a few bytes would take its full size as soon as it is copied."""
    if value.layout != torch.strided or value.is_meta:
        return
    size, stored = value.numel() * value.element_size(), value.untyped_storage().nbytes()
    if size > stored:
        raise CheckpointError(
            f"{name}: {key} of shape {tuple(value.shape)} takes {size:,} bytes, but only {stored:,} are stored "
            "for it; save it with .contiguous()"
        )
