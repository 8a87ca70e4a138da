"""SHA-256 of checkpoint files: computing them, and comparing with a listed one.

Flipped bits and corrupt downloads of the right length load without an error, so a sum that is known is checked.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from pathlib import Path

from sdvar.checkpoints.errors import CheckpointError

LIST = "SHA256SUMS"
CHUNK = 2**22  # bytes read at a time


def sha256(path: Path) -> str:
    """SHA-256 of a file in hex, in one pass; computed once a process for a file that does not change."""
    state = path.stat()
    return _sha256(path.resolve(), state.st_ino, state.st_size, state.st_mtime_ns)


def verify(path: Path, name: str) -> None:
    """Compares a file with the sum that ``SHA256SUMS`` beside it lists and with the one that the hub's cache knows.

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        CheckpointError: if a sum is known and the file has another one.
    """
    for expected, where, advice in filter(None, (_listed(path), _cached(path))):
        if (found := sha256(path)) != expected:
            raise CheckpointError(
                f"{name}: the SHA-256 is {found}, but {expected} by {where}; the file is damaged or another "
                f"one. {advice}"
            )


def listed(path: Path) -> str | None:
    """The sum that a ``SHA256SUMS`` beside the file (lines of sha256sum) lists for it, if there is one."""
    sums = path.parent / LIST
    if not sums.is_file():
        return None
    for line in sums.read_text(errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)", line)
        if match and match[2] == path.name:
            return match[1].lower()
    return None


def _listed(path: Path) -> tuple[str, str, str] | None:
    expected = listed(path)
    return expected and (expected, str(path.parent / LIST), "Copy it again, or correct the list if it was replaced")


def _cached(path: Path) -> tuple[str, str, str] | None:
    # the hub's cache links a snapshot's file to blobs/<etag>; the etag of a large file is its SHA-256, of a small one
    # a shorter git hash. Only the first link counts: a blob may itself be a link into a store with other names
    blob = Path(os.path.normpath(path.parent / os.readlink(path))) if path.is_symlink() else path
    if blob.parent.name != "blobs" or not re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return None
    return blob.name, "the hub", f"Delete {blob} and run the same command again"


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, inode: int, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))  # hashlib.file_digest needs Python 3.11
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()
