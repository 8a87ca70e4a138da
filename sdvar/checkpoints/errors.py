"""The one error of loading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CheckpointError(ValueError):
    """A checkpoint cannot be read or does not fit; the message names the file, what is wrong and what to do."""


@contextmanager
def named(name: str) -> Iterator[None]:
    """A CheckpointError raised in the block gets the name of the weights in front of it."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error.__cause__
