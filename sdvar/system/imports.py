"""Imports of large libraries by a command that has begun, with Python's garbage collector at rest."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Collects nothing meanwhile, and never looks through what there is by the end again.

    Libraries define a million objects and leave no garbage. Looking through them takes a tenth of their import's time,
    and a tenth of a second in each full collection of the run.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # the interpreter takes apart what it can reach, and libraries report the rest
        gc.enable()
