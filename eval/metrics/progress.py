"""A line that says how far a step is which takes longer than some seconds."""

from __future__ import annotations

import sys

from tqdm import tqdm

LATE = 3.0  # seconds after which the line appears


def progress(total: int, what: str, unit: str, quiet: bool = False) -> tqdm:
    """To be updated; on stderr, gone at the end, and only where that is a terminal.

    Args:
        total: how many there are.
        what: is counted up to it, in words.
        unit: of what is counted, with a space before it.
        quiet: no line.
    """
    return tqdm(
        total=total, desc=what, unit=unit, delay=LATE, leave=False, file=sys.stderr, disable=True if quiet else None
    )
