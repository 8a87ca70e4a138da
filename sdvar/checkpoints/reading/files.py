"""Reading checkpoint files: SHA-256 sums are checked, no code runs, and files are memory-mapped where possible."""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.reading import unpickling
from sdvar.checkpoints.reading.absent import absent
from sdvar.checkpoints.reading.folders import DISTRIBUTED, INDEX, index_of, shards_of, whole_from, whole_of
from sdvar.checkpoints.reading.hub import local_file
from sdvar.checkpoints.reading.sources import Source, name_of, split
from sdvar.guidance import guidance_from
from sdvar.models.quantized import WEIGHT_KINDS
from sdvar.sampling import Sampling

SUMS = "SHA256SUMS"
HEADS, GUIDANCE, ROUNDED = "heads", "guidance_inside", "rounded_to"  # what a safetensors file may state
CHUNK = 2**22  # bytes read at a time
START = 512  # bytes that tell the kind of a file
TAR_AT = 257  # where an archive of tar says so
ZIP = b"PK\x03\x04"  # how a .pth of torch >= 1.6 begins; older ones cannot be mapped
# what else lies where weights are expected: how it begins, and what to do
OTHERS = {
    b"version https://git-lfs": "a Git LFS pointer, not the weights; run git lfs pull in its repository",
    b"<": "a web page or XML, not a checkpoint; download the file itself (on the hub its address has /resolve/)",
    b"\x1f\x8b": "an archive of gzip; unpack it and give the file in it",
    b"BZh": "an archive of bzip2; unpack it and give the file in it",
    b"\xfd7zXZ": "an archive of xz; unpack it and give the file in it",
    b"7z\xbc\xaf": "an archive of 7-Zip; unpack it and give the file in it",
    b"Rar!": "an archive of RAR; unpack it and give the file in it",
    b"\x28\xb5\x2f\xfd": "an archive of zstd; unpack it and give the file in it",
    b"\x89HDF": "an HDF5 file; give a .pth or .safetensors file",
    b"GGUF": "a GGUF file; give a .pth or .safetensors file",
    b"\x93NUMPY": "an array of NumPy; give a .pth or .safetensors file",
}


def read(source: Source, verify: bool = True) -> Any:
    """What a source holds: tensors by name, or a training checkpoint around them.

    Tensors of a safetensors file and of a zipped file of `torch.save` are views of the mapped file.

    Args:
        source: a mapping, which is returned unchanged; a file; a folder of shards or its ``.index.json``; or a name
            that `hub.local_file` knows. Of ``FILE::PATH`` all of FILE.
        verify: compare each file with its known SHA-256; this reads all of it.

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
    if os.path.isdir(path):  # of a name that no file can have it is false
        path = index_of(path, name)
    if path.name.endswith(INDEX):
        return _merged(shards_of(path, name), name, verify)
    if path.suffix == DISTRIBUTED:
        raise CheckpointError(f"{name}: a part {whole_from(path.parent)}")
    if index := whole_of(path):
        raise CheckpointError(f"{name}: one of several shards; give the folder or {index.name}")
    return _read(path, name, verify)


def _merged(shards: Mapping[Path, list[str]], name: str, verify: bool) -> dict[str, Any]:
    """The tensors of several files, as their index lists them."""
    merged = {}
    for shard, keys in shards.items():
        content = _read(shard, f"{name}: {shard.name}", verify)
        missing = [key for key in keys if not isinstance(content, Mapping) or key not in content]
        if missing:
            raise CheckpointError(
                f"{name}: {shard.name} lacks {', '.join(missing[:5])}, which the index lists for it; download it again"
            )
        merged.update({key: content[key] for key in keys})
    return merged


def _read(path: Path, name: str, verify: bool) -> Any:
    """What one file holds."""
    start = _start(path, name)
    if verify:
        _verify(path, name)
    safe = start[8:9] == b"{"  # the length of a header in JSON comes first
    try:
        return load_file(path) if safe else unpickling.load(path, mmap=start.startswith(ZIP))
    except Exception as error:
        raise CheckpointError(f"{name}: cannot be read as a checkpoint{_why(error, path, start)}") from None


def _start(path: Path, name: str) -> bytes:
    """The first bytes of a file that may be a checkpoint."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
        if regular:  # opening a FIFO would wait for a writer
            with path.open("rb") as file:
                start = file.read(START)
    except FileNotFoundError:
        raise absent(name, path) from None
    except PermissionError as error:
        raise CheckpointError(f"{name}: cannot be opened ({error.strerror}); check its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        why = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{name!r}: cannot be opened ({why}); give the path of a file") from None
    if not regular:
        raise CheckpointError(f"{name}: not a regular file but a pipe, device or folder; give a file on a disk")
    if not start:
        raise CheckpointError(f"{name}: cannot be read as a checkpoint: the file is empty. Download or copy it again")
    for beginning, what in OTHERS.items():
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(beginning):
            raise CheckpointError(f"{name}: {what}")
    if start[TAR_AT:].startswith(b"ustar"):
        raise CheckpointError(f"{name}: an archive of tar; unpack it and give the file in it")
    return start


def _why(error: Exception, path: Path, start: bytes) -> str:
    """Why a file cannot be read, and what to do. Never torch's own advice, which is to run the code in it."""
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and (refused := unpickling.refused(error)):
        if "ShardedTensor" in refused or "distributed.tensor" in refused:
            return f": its tensors are distributed ({refused}). Save a full state dict, gathered on one process"
        return (
            f": it holds {refused}, and objects other than tensors, plain values and records of them are refused, "
            "since unpickling them can run code. Save the model's state_dict() alone"
        )
    if "must be imported to load DTensors" in text:
        return ": its tensors are distributed (DTensor). Save a full state dict, gathered on one process"
    if "TorchScript" in text:
        return ": it is a TorchScript archive, which holds code. Save the model's state_dict() alone"
    if "Unsupported operand" in text and (start.startswith(ZIP) or b"\x80\x03" <= start[:2] <= b"\x80\x09"):
        return ": it was pickled in another form. Save the model's state_dict() by torch.save, without pickle_protocol"
    held = _archived(path) if start.startswith(ZIP) else None
    if held is not None and not any(entry.endswith("data.pkl") for entry in held):
        some = ", ".join(held[:3] + ["…"] * (len(held) > 3)) or "nothing"
        return f": it is a zip archive of {some}, which torch.save did not write. Unpack it and give the file in it"
    kind = "no file of torch.save and no safetensors file"
    return f" ({type(error).__name__}); it is damaged, cut off or {kind}. Download or copy it again"


def _archived(path: Path) -> list[str] | None:
    """The names in a zip archive; None for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # zipfile has one for each kind of damage: BadZipFile, NotImplementedError, UnicodeDecodeError …
        return None


def stated_heads(source: Source) -> int | None:
    """The number of attention heads that a safetensors file states beside its tensors, as `convert` writes it."""
    stated = _stated(source).get(HEADS, "")
    return int(stated) if stated.isdecimal() and 0 < len(stated) < 7 else None


def stated_guidance(source: Source) -> Sampling | None:
    """The guidance inside that a safetensors file states beside its tensors, as `distil` writes it.

    Raises:
        CheckpointError: what it states is none.
    """
    stated = _stated(source).get(GUIDANCE)
    try:
        return None if stated is None else guidance_from(stated)
    except ValueError as error:
        raise CheckpointError(f"{name_of(source)}: {error}; make the file again") from None


def stated_rounding(source: Source) -> str | None:
    """The kind of weights that a safetensors file states beside its tensors, as `distil` writes it.

    Raises:
        CheckpointError: what it states is none.
    """
    stated = _stated(source).get(ROUNDED)
    if stated in (None, *WEIGHT_KINDS):
        return stated
    raise CheckpointError(
        f"{name_of(source)}: {ROUNDED}: expected one of {', '.join(WEIGHT_KINDS)}, got {stated!r:.100}; make the file "
        "again"
    )


def _stated(source: Source) -> dict[str, str]:
    """What a safetensors file states beside its tensors; nothing for any other source."""
    if isinstance(source, Mapping) or (path := local_file(source)).is_dir() or path.name.endswith(INDEX):
        return {}
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError:  # a file of torch.save
        return {}


def digest(source: str | os.PathLike) -> str:
    """What identifies the weights of a source: SHA-256 of its file, or of its shards' sums; and the path in it."""
    place, path = split(source), local_file(source)
    if os.path.isdir(path):
        path = index_of(path, place.file)
    if path.name.endswith(INDEX):
        files = [path, *shards_of(path, place.file)]
        total = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
    else:
        _start(path, place.file)  # or says what is in its place
        total = sha256(path)
    return total if place.path is None else f"{total}::{place.path}"


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
