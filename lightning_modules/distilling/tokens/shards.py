"""Token shards: Parquet files of images as tokens, each of which says where its images come from.

A row is an image: ``index``, ``label``, ``seed`` (null for images of a user's own) and ``tokens``, a list of L uint16
(uint32 for a codebook of more than 65,536). Where the target's distributions are kept, ``kept`` has a bit for each of
the V tokens of each of the L places, rounded up to bytes (`numpy.packbits`): whether the filters leave it; ``logits``
has the logits of those that they leave, float16, less the highest of the place. pyarrow and `datasets` read all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from sdvar.system.atomic import replacing

KEY = b"sdvar_tokens"  # of an `Origin`, in the metadata of a file's schema
SUFFIX = ".parquet"
DISTRIBUTIONS = ("kept", "logits")  # the columns
AGAIN = "remove it, and the command that made it makes its images again"


@dataclass(frozen=True)
class Origin:
    """Where the images of a shard come from.

    Attributes:
        source: "target" if it sampled them, else "images" and a digest of the list of those that were encoded.
        tokenizer: digest of its weights.
        patch_nums: sides of the scales.
        teacher: digest of the target's weights; None for encoded images alone.
        sampling: arguments of `sdvar.Sampling`; None for encoded images alone.
        seed: which the seeds of the images follow from; None for encoded images.
        precision: of the models.
        distributions: whether the target's guided and filtered ones are kept. If so, teacher and sampling are theirs.
    """

    source: str
    tokenizer: str
    patch_nums: list[int]
    teacher: str | None = None
    sampling: dict[str, Any] | None = None
    seed: int | None = None
    precision: str = "32-true"
    distributions: bool = False

    def differences(self, other: Origin, names: Sequence[str]) -> list[str]:
        """Which of some attributes another origin has otherwise, such as "seed 0, expected 1"."""
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        return [f"{name} {ours}, expected {theirs}" for name, ours, theirs in pairs if ours != theirs]


def shards(folder: Path) -> list[Path]:
    """The shards of a folder, in the order of their names; none if there is no such folder."""
    return sorted(file for file in folder.glob(f"*{SUFFIX}") if not file.name.startswith("."))


def write_shard(
    folder: Path,
    origin: Origin,
    index: Sequence[int],
    labels: Sequence[int],
    seeds: Sequence[int | None],
    tokens: np.ndarray,
    distributions: Mapping[str, Sequence[bytes]] | None = None,
) -> Path:
    """Write images as a shard that is named by the first of them; it appears whole or not at all.

    Args:
        folder: where; it exists.
        origin: of the images.
        index, labels, seeds: of the N images.
        tokens: int (N, L).
        distributions: their columns, if they are kept. Each image is a row group then, so that one can be read alone.
    """
    kind = pyarrow.uint16() if tokens.max(initial=0) < 1 << 16 else pyarrow.uint32()
    flat = pyarrow.array(tokens.reshape(-1), kind)
    columns = {
        "index": pyarrow.array(index, pyarrow.int64()),
        "label": pyarrow.array(labels, pyarrow.int32()),
        "seed": pyarrow.array(seeds, pyarrow.int64()),
        "tokens": pyarrow.FixedSizeListArray.from_arrays(flat, tokens.shape[1]),
    }
    columns |= {name: pyarrow.array(column, pyarrow.binary()) for name, column in (distributions or {}).items()}
    table = pyarrow.table(columns).replace_schema_metadata({KEY: json.dumps(asdict(origin)).encode()})
    file = folder / f"{index[0]:010d}{SUFFIX}"
    with replacing(file) as stream:
        parquet.write_table(table, stream, row_group_size=1 if distributions else None, compression="zstd")
    return file


def read_origin(file: Path) -> Origin:
    """Where the images of a shard come from.

    Raises:
        ValueError: it is damaged, or no shard.
    """
    try:
        return Origin(**json.loads((parquet.read_schema(file).metadata or {})[KEY]))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"tokens: {file} is damaged ({' '.join(str(error).split())}); {AGAIN}") from None
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"tokens: {file} is no shard of tokens; expected what eval/tokens.py writes") from None


def read_columns(file: Path, names: Sequence[str], length: int = 0) -> list[np.ndarray]:
    """Columns of a shard: int64 (N,), of tokens uint16 or uint32 (N, ``length``).

    Raises:
        ValueError: it is damaged, or lacks a column, or its images have another number of tokens.
    """
    try:
        table = parquet.read_table(file, columns=list(names))
        columns = [table[name].combine_chunks() for name in names]
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"tokens: {file} is damaged ({' '.join(str(error).split())}); {AGAIN}") from None
    return [_array(file, column, length) for column in columns]


def _array(file: Path, column: Any, length: int) -> np.ndarray:
    if not pyarrow.types.is_fixed_size_list(column.type):
        return column.to_numpy(zero_copy_only=False).astype(np.int64)
    if column.type.list_size != length:
        raise ValueError(f"tokens: {file} has {column.type.list_size} tokens an image, expected {length}; {AGAIN}")
    return column.flatten().to_numpy().reshape(-1, length)
