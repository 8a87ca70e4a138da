"""The one way in which this project writes a whole file: it appears complete or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_UNFINISHED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.tmp")


@contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """Opens a new file that gets the name ``path`` when the block ends, in place of an older one.

    The data goes to a file of an unpredictable name in the same folder, created exclusively: no link is followed, and
    two processes that write the same path cannot mix. If the block raises, nothing is left and an older file stays.

    Args:
        path: of the file; its folder exists.
        sync: force the data to the disk before the file gets its name. Without it, a power cut may leave the file
            empty: only for files that are checked before they are used.

    Raises:
        OSError: the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with unfinished.open("xb") as stream:
            yield stream
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes, sync: bool = True) -> None:
    """Writes a file that appears whole or not at all; arguments and errors as of `replacing`."""
    with replacing(path, sync) as stream:
        stream.write(data)


def unfinished_target(name: str) -> str | None:
    """The file that a killed process was writing under this name; None if it is not a name of `replacing`."""
    match = _UNFINISHED.fullmatch(name)
    return match["name"] if match else None
