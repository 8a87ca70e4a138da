"""The one error of loading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CheckpointError(ValueError):
    """A checkpoint cannot be read or does not fit; the message names the file, what is wrong and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Text with names from a file in it as one line: what is no printable character as its escape.

    A name may hold line feeds and the escape sequences of a terminal.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


@contextmanager
def named(name: str) -> Iterator[None]:
    """A CheckpointError raised in the block gets the name of the weights in front of it."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error.__cause__
