"""Reading a checkpoint file: its SHA-256 is checked, no code runs, and it is memory-mapped where the format allows."""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.hub import local_file

Source = str | os.PathLike | Mapping[str, Any]
SUMS = "SHA256SUMS"
CHUNK = 2**22  # bytes read at a time
ZIP = b"PK\x03\x04"  # how a .pth of torch >= 1.6 begins; older ones cannot be mapped


def name_of(source: Source) -> str:
    """What messages call a source."""
    return "state dict" if isinstance(source, Mapping) else str(source)


def read(source: Source, verify: bool = True) -> Any:
    """What a source holds: tensors by name, or a training checkpoint around them.

    Tensors of a ``.safetensors`` file and of a zipped ``.pth`` are views of the mapped file.

    Args:
        source: a mapping, which is returned unchanged; a file; or a name that `hub.local_file` knows.
        verify: compare the file with its known SHA-256; this reads all of it.

    Raises:
        TypeError: for anything else.
        CheckpointError: if there is no such file or it cannot be read.
    """
    if isinstance(source, Mapping):
        return source
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"source: expected a checkpoint file, a hub name or a state dict, got {type(source).__name__}; of a model "
            "give its state_dict()"
        )
    name, path = name_of(source), local_file(source)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CheckpointError(f"{name}: a folder; give the .pth or .safetensors file in it")
        if not stat.S_ISREG(mode):  # opening a FIFO would wait for a writer
            raise CheckpointError(f"{name}: not a regular file but a pipe, socket or device; give a file on a disk")
        with path.open("rb") as file:
            start = file.read(len(ZIP))
    except FileNotFoundError:
        raise CheckpointError(f"{name}: no such file; expected a .pth or .safetensors checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be opened ({error.strerror}); check its permissions") from None
    if not start:
        raise CheckpointError(f"{name}: cannot be read as a checkpoint: the file is empty. Download or copy it again")
    if verify:
        _verify(path, name)
    safe = path.suffix == ".safetensors"
    try:
        if safe:
            return load_file(path)
        # weights_only: a checkpoint must not be able to run code
        return torch.load(path, map_location="cpu", weights_only=True, mmap=start == ZIP)
    except Exception as error:
        # torch's message advises turning weights_only off, which would run code from the file
        refused = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused:
            raise CheckpointError(
                f"{name}: cannot be read as a checkpoint: it holds {refused[1]}, and objects other than tensors and "
                "plain values are refused, since unpickling them can run code. Save the model's state_dict() alone"
            ) from None
        kind = "safetensors file" if safe else "file of torch.save"
        advice = "a file of torch.save is named .pth" if safe else "a safetensors file is named .safetensors"
        raise CheckpointError(
            f"{name}: cannot be read as a checkpoint ({type(error).__name__}); it is damaged, cut off or no {kind}. "
            f"Download or copy it again; {advice}"
        ) from None


def sha256(path: Path) -> str:
    """SHA-256 of a file in hex, in one pass; computed once per process for a file that does not change."""
    state = path.stat()
    return _sha256(path.resolve(), state.st_ino, state.st_size, state.st_mtime_ns)


def _verify(path: Path, name: str) -> None:
    """Raises CheckpointError if the file differs from its sum in ``SHA256SUMS`` beside it or in the hub's cache.

    Flipped bits and corrupt downloads of the right length load without an error, so every known sum is checked.
    """
    known: list[tuple[str, object, str]] = []
    if expected := listed(path):
        known.append((expected, path.parent / SUMS, "Copy it again, or correct the list if it was replaced"))
    # The hub's cache links a snapshot's file to blobs/<etag>. The etag of a large file is its SHA-256, that of a small
    # one a shorter git hash. Only the first link counts: a blob may itself link into a store with other names.
    blob = Path(os.path.normpath(path.parent / os.readlink(path))) if path.is_symlink() else path
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        known.append((blob.name, "the hub", f"Delete {blob} and run the same command again"))
    for expected, where, advice in known:
        if (found := sha256(path)) != expected:
            raise CheckpointError(
                f"{name}: the SHA-256 is {found}, but {expected} by {where}; the file is damaged or another "
                f"one. {advice}"
            )


def listed(path: Path) -> str | None:
    """The sum that a ``SHA256SUMS`` beside the file (lines of sha256sum) lists for it, if there is one."""
    sums = path.parent / SUMS
    if not sums.is_file():
        return None
    for line in sums.read_text(errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)", line)
        if match and match[2] == path.name:
            return match[1].lower()
    return None


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, inode: int, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))  # hashlib.file_digest needs Python 3.11
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()
