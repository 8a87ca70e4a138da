"""State dicts of VARs and tokenizers, wherever they are in what a file holds: found by their structure.

A file is a tree of mappings with tensors as leaves; the dots of a tensor's name go on with the tree. The root of a
model is the node under which its tensors have the released names. Levels that a wrapper adds (data parallelism, FSDP,
`torch.compile`, activation checkpoints) show by their shape: they have one child, and no released name contains them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.reading.unpickling import Saved
from sdvar.models.tokenizer import VQVAE
from sdvar.models.transformer import VAR

VAR_KIND, TOKENIZER_KIND, UNKNOWN_KIND = "VAR", "tokenizer", "unknown"
HOW_TO_USE = {VAR_KIND: "give it as the draft or the target", TOKENIZER_KIND: "give it as the tokenizer"}
# children by which the root of a model is known, and the tensors from which its configuration is read
SIGNS = {
    VAR_KIND: ("blocks", "pos_1LC", "pos_start", "word_embed", "class_emb"),
    TOKENIZER_KIND: ("quantize", "encoder", "decoder"),
}
REQUIRED = {
    VAR_KIND: (
        "pos_1LC", "pos_start", "class_emb.weight", "word_embed.weight", "head.weight", "blocks.0.ffn.fc1.weight",
    ),
    TOKENIZER_KIND: ("quantize.embedding.weight", "encoder.conv_in.weight"),
}  # fmt: skip
DEEPEST = 40  # levels of a tree; a model has about ten


@dataclass(frozen=True)
class StateDict:
    """The tensors of one model.

    Attributes:
        path: where it is in the file, "" for the whole; ``FILE::PATH`` chooses it.
        kind: VAR_KIND, TOKENIZER_KIND or UNKNOWN_KIND.
        tensors: by their released names.
        wrapped: the path with the levels that wrappers add.
    """

    path: str
    kind: str
    tensors: dict[str, Tensor] = field(repr=False)
    wrapped: str

    @property
    def complete(self) -> bool:
        """Whether it has what its configuration is read from."""
        return self.kind != UNKNOWN_KIND and all(key in self.tensors for key in REQUIRED[self.kind])

    def named(self, file: str) -> str:
        """What messages call it; it can be given as a source."""
        return f"{file}::{self.path}" if self.path else file


def kind_of(weights: Mapping[str, Tensor]) -> str:
    """VAR_KIND, TOKENIZER_KIND or UNKNOWN_KIND, by the names alone."""
    first = {key.partition(".")[0] for key in weights}
    return next((kind for kind in (TOKENIZER_KIND, VAR_KIND) if first.intersection(SIGNS[kind])), UNKNOWN_KIND)


def state_dicts(name: str, loaded: Any) -> list[StateDict]:
    """All state dicts of VARs and tokenizers in a file's content; without any, whatever else has named tensors.

    Args:
        name: what messages call the file.
        loaded: what it holds.

    Raises:
        CheckpointError: it has no named tensors.
    """
    groups = dict(_groups(loaded, (), set()))
    found = [state for place, group in groups.items() for state in _models(place, _spliced(_tree(group)), place)]
    if not found:
        found = [StateDict(".".join(place), UNKNOWN_KIND, group, ".".join(place)) for place, group in groups.items()]
    if not found:
        advice = "of a model give its state_dict()" if isinstance(loaded, Saved) else "save the model's state_dict()"
        raise CheckpointError(f"{name}: expected names and tensors, got {outline(loaded)}; {advice}")
    return found


def outline(value: Any) -> str:
    """What a value is, one level deep: 'epoch (int), trainer (dict of config, var)'."""
    if not isinstance(value, Mapping):
        return "a " + _type(value)
    return ", ".join(entries(value)) or "nothing"


def entries(value: Mapping[Any, Any], most: int = 20) -> list[str]:
    """What a mapping holds, entry by entry, each in a few words."""
    parts = []
    for key, entry in list(value.items())[:most]:
        if isinstance(entry, Mapping):
            keys = list(map(str, list(entry)[:3])) + ["…"] * (len(entry) > 3)
            parts.append(f"{key} (dict of {', '.join(keys) or 'nothing'})")
        else:
            parts.append(f"{key} ({_type(entry)})")
    return parts + [f"and {len(value) - most} more"] * (len(value) > most)


def rest(loaded: Any, found: Sequence[StateDict]) -> list[str]:
    """What a file holds beside some of its state dicts, each entry in a few words."""
    taken: dict[int, bool] = {id(value): True for state in found for value in state.tensors.values()}

    def holds(value: Any) -> bool:
        if id(value) not in taken:
            taken[id(value)] = False  # also what a container is while its entries are looked at: it may hold itself
            taken[id(value)] = any(map(holds, _entries(value).values()))
        return taken[id(value)]

    def others(value: Any, prefix: str) -> Iterator[str]:
        if id(value) in seen:
            return
        seen.add(id(value))
        apart = {key: entry for key, entry in _entries(value).items() if not holds(entry)}
        yield from (prefix + entry for entry in entries(apart))
        for key, entry in _entries(value).items():
            if key not in apart:
                yield from others(entry, f"{prefix}{key}.")

    seen: set[int] = set()
    return list(others(loaded, ""))


def _entries(value: Any) -> Mapping[Any, Any]:
    """The entries of a container, by key or position."""
    if isinstance(value, Mapping):
        return value
    return dict(enumerate(value)) if isinstance(value, list | tuple) else {}


def _groups(value: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Each mapping of a file that has named tensors, by its place."""
    if isinstance(value, Mapping):
        tensors = {key: entry for key, entry in value.items() if isinstance(entry, Tensor) and isinstance(key, str)}
        if tensors:
            yield place, tensors
    if id(value) in seen or len(place) > DEEPEST:  # a pickle may hold itself, or one thing in any number of places
        return
    seen.add(id(value))
    for key, entry in _entries(value).items():
        yield from _groups(entry, (*place, str(key)), seen)


@dataclass
class _Node:
    """A level of names.

    Attributes:
        children: by the next part of the name.
        leaf: the tensor that ends here.
        skipped: parts of wrappers that were cut out above its children.
    """

    children: dict[str, _Node] = field(default_factory=dict)
    leaf: Tensor | None = None
    skipped: tuple[str, ...] = ()

    def leaves(self, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, Tensor]]:
        if self.leaf is not None:
            yield ".".join(prefix), self.leaf
        for part, child in self.children.items():
            yield from child.leaves((*prefix, part))


def _tree(tensors: Mapping[str, Tensor]) -> _Node:
    root = _Node()
    for key, value in tensors.items():
        node = root
        for part in key.split(".", DEEPEST):
            node = node.children.setdefault(part, _Node())
        node.leaf = value
    return root


def _spliced(node: _Node) -> _Node:
    """A tree without the levels of wrappers."""
    skipped: tuple[str, ...] = ()
    while len(node.children) == 1:
        [(part, child)] = node.children.items()
        if child.leaf is not None or part.isdecimal() or part in _words():
            break
        skipped, node = (*skipped, part), _Node(child.children, node.leaf)
    return _Node({part: _spliced(child) for part, child in node.children.items()}, node.leaf, skipped)


def _models(path: tuple[str, ...], node: _Node, wrapped: tuple[str, ...]) -> list[StateDict]:
    """The models whose roots are at a node or below it.

    Args:
        path: of the node.
        node: of a tree of names without wrappers.
        wrapped: the path with the parts that wrappers add.
    """
    wrapped += node.skipped
    kinds = [kind for kind, signs in SIGNS.items() if any(sign in node.children for sign in signs)]
    kinds = [kind for kind in kinds if any(_template(key) in _templates(kind) for key, _ in node.leaves())]
    signs = {sign for kind in kinds for sign in SIGNS[kind]}
    below: list[StateDict] = []
    own: dict[str, _Node] = {}
    for part, child in node.children.items():
        nested = [] if part in signs else _models((*path, part), child, (*wrapped, part))
        below += nested
        if not nested:
            own[part] = child
    found = []
    for kind in kinds:
        parts = own
        if len(kinds) > 1:  # a VAR and a tokenizer side by side: the tokenizer takes the names that are its own
            tops = {name.partition(".")[0] for name in _templates(TOKENIZER_KIND)}
            parts = {part: child for part, child in own.items() if (part in tops) == (kind == TOKENIZER_KIND)}
        found.append(StateDict(".".join(path), kind, dict(_Node(parts).leaves()), ".".join(wrapped)))
    return found + below


@functools.cache
def _templates(kind: str) -> frozenset[str]:
    """The released names of a kind of model, with # for numbers."""
    names: set[str] = set()
    with torch.device("meta"):
        if kind == VAR_KIND:
            for shared in (False, True):
                names |= VAR((1,), depth=1, width=64, heads=1, shared_adaln=shared).state_dict().keys()
        else:
            for sharing in (0, 1, 2):
                names |= VQVAE((1,), 1, 1, 32, (1, 2), 1, sharing).state_dict().keys()
    return frozenset(map(_template, names))


@functools.cache
def _words() -> frozenset[str]:
    """All parts of released names."""
    return frozenset(part for kind in SIGNS for name in _templates(kind) for part in name.split("."))


def _template(name: str) -> str:
    return ".".join("#" if part.isdecimal() else part for part in name.split("."))


def _type(value: Any) -> str:
    return value.name if isinstance(value, Saved) else type(value).__name__
