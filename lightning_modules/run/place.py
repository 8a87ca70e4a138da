"""Whether a folder can be written, asked before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path


def check_writable(folder: Path) -> None:
    """Raises ValueError if a folder, or the nearest one above it that exists, is none or cannot be written."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"out: {folder} cannot be written ({nearest} is not a folder or not writable)")
