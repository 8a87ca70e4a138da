"""Where a pair of models comes from: its name or its files, and what identifies their content."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import sdvar
from sdvar.checkpoints import BUNDLED

DTYPES = {
    "64-true": torch.float64,
    "32-true": torch.float32,
    "bf16-true": torch.bfloat16,
    "16-true": torch.float16,
}


@dataclass(frozen=True)
class PairFiles:
    """Checkpoint files of a pair.

    Args:
        draft: the small VAR.
        target: the large VAR.
        tokenizer: the VQVAE of both.
    """

    draft: str
    target: str
    tokenizer: str


def load(source: str | PairFiles, precision: str) -> sdvar.ModelPair:
    """Loads a pair into the CPU's memory.

    Args:
        source: name of a bundled pair, or the files.
        precision: one of `DTYPES`.

    Raises:
        ValueError: as `sdvar.load_pair`.
    """
    given = asdict(source) if isinstance(source, PairFiles) else {"pair": source}
    return sdvar.load_pair(**given, dtype=DTYPES[precision])


@functools.cache
def digests(source: str | PairFiles) -> dict[str, str]:
    """SHA-256 of each weights file, by the model's name."""
    if isinstance(source, PairFiles):
        files = {name: Path(file) for name, file in asdict(source).items()}
    else:
        files = {path.stem: path for path in sorted((BUNDLED / source).glob("*.safetensors"))}
    return {name: _sha256(path) for name, path in files.items()}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
