"""Imports of large libraries by a command that has begun, with Python's garbage collector at rest."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

UNUSED = "scipy.signal"  # torchmetrics imports it to give it an old name, `hamming`, which takes half a second


@contextmanager
def importing() -> Iterator[None]:
    """Collects nothing meanwhile, and never looks through what there is by the end again.

    Libraries define a million objects and leave no garbage. Looking through them takes a tenth of their import's time,
    and a tenth of a second in each full collection of the run. `UNUSED` is imported once somebody uses it.
    """
    placeholder = ModuleType(UNUSED)
    placeholder.hamming = None  # type: ignore[attr-defined]
    gc.disable()
    try:
        sys.modules.setdefault(UNUSED, placeholder)
        yield
    finally:
        if sys.modules[UNUSED] is placeholder:
            del sys.modules[UNUSED]
        gc.freeze()
        atexit.register(gc.unfreeze)  # the interpreter takes apart what it can reach, and libraries report the rest
        gc.enable()
