"""What identifies the files that an option names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sdvar.checkpoints.reading.files import sha256


def content(path: Path) -> Iterator[str]:
    """A file's digest, or the names and digests of all regular files of a folder but byte code; links are followed."""
    if path.is_file():
        yield sha256(path)
        return
    seen: set[str] = set()
    for parent, folders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(set(folders) - {"__pycache__"})
        for file in (Path(parent, name) for name in sorted(names) if real not in seen):
            if file.is_file():
                yield os.path.relpath(file, path)
                yield sha256(file)
        seen.add(real)
