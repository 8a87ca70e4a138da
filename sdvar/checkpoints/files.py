"""Reading a checkpoint file: safely, and mapped from the disk instead of copied where the format allows it."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdvar.checkpoints import checksums
from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.hub import local_file

Source = str | os.PathLike | Mapping[str, Any]
ZIP = b"PK\x03\x04"  # how a .pth of torch >= 1.6 begins; older ones cannot be mapped


def name_of(source: Source) -> str:
    """What messages call a source."""
    return "state dict" if isinstance(source, Mapping) else str(source)


def read(source: Source, verify: bool = True) -> Any:
    """What a source holds: tensors by name, or a training checkpoint around them.

    The tensors of a ``.safetensors`` file and of a zipped ``.pth`` are views of the mapped file.

    Args:
        source: a mapping, which is returned as it is; a file, or a name that `hub.local_file` knows.
        verify: compare the file with a known SHA-256, which reads all of it.

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
    if path.is_dir():
        raise CheckpointError(f"{name}: a folder; give the .pth or .safetensors file in it")
    try:
        with path.open("rb") as file:
            start = file.read(len(ZIP))
    except FileNotFoundError:
        raise CheckpointError(f"{name}: no such file; expected a .pth or .safetensors checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be opened ({error.strerror}); check its permissions") from None
    if not start:
        raise CheckpointError(f"{name}: cannot be read as a checkpoint: the file is empty. Download or copy it again")
    if verify:
        checksums.verify(path, name)
    if path.suffix == ".safetensors":
        return _read_safetensors(path, name)
    return _read_torch(path, name, mapped=start == ZIP)


def _read_safetensors(path: Path, name: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)  # maps the file
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{name}: cannot be read as a checkpoint ({type(error).__name__}); it is damaged, cut off or no "
            "safetensors file. Download or copy it again; a file of torch.save is named .pth"
        ) from None


def _read_torch(path: Path, name: str, mapped: bool) -> Any:
    try:
        # weights_only: a checkpoint must not be able to run code
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        # torch's own message advises to switch weights_only off, which would run whatever the file holds
        refused = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused:
            raise CheckpointError(
                f"{name}: cannot be read as a checkpoint: it holds {refused[1]}, and objects other than tensors and "
                "plain values are refused, since unpickling them can run code. Save the model's state_dict() alone"
            ) from None
        raise CheckpointError(
            f"{name}: cannot be read as a checkpoint ({type(error).__name__}); it is damaged, cut off or no file of "
            "torch.save. Download or copy it again; a safetensors file is named .safetensors"
        ) from None
