"""Folders of weights: shards with an index, as Hugging Face's libraries write them; and what is said of others."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sdvar.checkpoints.errors import CheckpointError

INDEX = ".index.json"
SHARD = re.compile(r"(?P<stem>.+)-\d+-of-(?P<count>\d+)(?P<suffix>\.\w+)")
DISTRIBUTED = ".distcp"
WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def index_of(folder: Path, name: str) -> Path:
    """The index of a folder of shards; that of the safetensors files where there are others too.

    Raises:
        CheckpointError: there is none, or more than one; it says what the folder is and what to give.
    """
    try:
        files = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be opened ({error.strerror}); check its permissions") from None
    indices = [file for file in files if file.endswith(INDEX)]
    indices = [file for file in indices if file.endswith(f".safetensors{INDEX}")] or indices
    if len(indices) == 1:
        return folder / indices[0]
    if indices:
        raise CheckpointError(f"{name}: a folder with {len(indices)} indices; give one of {', '.join(indices)}")
    if ".metadata" in files or any(file.endswith(DISTRIBUTED) for file in files):
        raise CheckpointError(f"{name}: a folder {whole_from(name)}")
    if "zero_to_fp32.py" in files or any("zero_pp_rank" in file for file in files):
        raise CheckpointError(
            f"{name}: a folder of DeepSpeed; make a file of it with its script: python zero_to_fp32.py . OUT"
        )
    held = [file for file in files if file.endswith(WEIGHTS)]
    shown = f": {', '.join(held[:5])}{', …' * (len(held) > 5)}" if held else ", if there is one"
    raise CheckpointError(f"{name}: a folder; give the .pth or .safetensors file in it{shown}")


def shards_of(index: Path, name: str) -> dict[Path, list[str]]:
    """The files that an index names, and the tensors to take from each.

    Raises:
        CheckpointError: as `shard_names`, or a file is missing.
    """
    shards: dict[Path, list[str]] = {}
    for key, file in _weight_map(index, name).items():
        shards.setdefault(index.parent / file, []).append(key)
    missing = [shard.name for shard in shards if not shard.exists()]
    if missing:
        raise CheckpointError(
            f"{name}: {len(missing)} of {len(shards)} shards missing: {', '.join(missing[:5])}; download them too"
        )
    return shards


def shard_names(index: Path, name: str) -> list[str]:
    """The files that an index names.

    Raises:
        CheckpointError: it is no index, or names a file outside its folder.
    """
    return list(dict.fromkeys(_weight_map(index, name).values()))


def _weight_map(index: Path, name: str) -> dict[str, str]:
    try:
        places = json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"]
    except FileNotFoundError:
        raise CheckpointError(f"{name}: no such file; expected a .pth or .safetensors checkpoint") from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        places = None
    if not isinstance(places, dict) or not places:
        raise CheckpointError(
            f"{name}: {index.name} is no index of shards; expected a weight_map of tensor names and files"
        )
    for file in places.values():
        if not isinstance(file, str) or file != Path(file).name or "\\" in file or file in ("", ".."):
            raise CheckpointError(f"{name}: {index.name} names {file!r}; expected the name of a file beside it")
    return places


def whole_from(folder: object) -> str:
    """What is said of a folder of torch.distributed.checkpoint, or of a file in it."""
    return (
        "of torch.distributed.checkpoint (DCP); make a file of it: python -m "
        f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} OUT.pth"
    )


def whole_of(shard: Path) -> Path | None:
    """The index beside a file that is one of several shards."""
    match = SHARD.fullmatch(shard.name)
    if match is None or int(match["count"]) == 1:
        return None
    index = shard.with_name(f"{match['stem']}{match['suffix']}{INDEX}")
    return index if index.is_file() else None
