"""What a user calls a checkpoint: a file, a folder of shards, a name on the hub, a part of one of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

Source = str | os.PathLike | Mapping[str, Any]


class Place(NamedTuple):
    """A source on disk or on the hub.

    Attributes:
        file: a file, a folder or a hub name.
        path: of the state dict in it, if the user chose one.
    """

    file: str
    path: str | None


def name_of(source: Source) -> str:
    """What messages call a source."""
    return "state dict" if isinstance(source, Mapping) else split(source).file


def chosen_path(source: Source) -> str | None:
    """The path of a state dict that the user chose in a source."""
    return None if isinstance(source, Mapping) else split(source).path


def split(source: str | os.PathLike) -> Place:
    """``FILE::PATH`` taken apart; a file whose own name has ``::`` in it is one if it exists."""
    text = os.fspath(source)
    file, chosen, path = text.rpartition("::")
    if not chosen or not file or not path or os.path.exists(os.path.expanduser(text)):
        return Place(text, None)
    return Place(file, path)
