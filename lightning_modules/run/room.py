"""Whether a folder can be written, and whether its disk has room for what a run has yet to write."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

SMALLEST = 1 / 8  # of an image's pixels: photographs as PNG take a half or more, drawn shapes a third
REST = 100_000  # bytes of a report, the smallest that there is


def check_writable(folder: Path) -> None:
    """Raises ValueError if a folder, or the nearest one above it that exists, is none or cannot be written."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"out: {folder} cannot be written ({nearest} is not a folder or not writable)")


def check_room(folder: Path, images: int, side: int) -> None:
    """Refuses a run that cannot end well, before it decodes; one whose images compress badly may still fill the disk.

    Args:
        folder: of the run; it exists.
        images: that it has yet to write.
        side: of an image, in pixels.

    Raises:
        ValueError: the disk has too little room.
    """
    needed, free = int(images * 3 * side * side * SMALLEST) + REST * bool(images), shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"out: {folder} takes at least {needed / 1e6:,.1f} MB more ({images:,} images and the report), and "
            f"{free / 1e6:,.1f} MB are free there; free some, or give a folder on another disk"
        )
