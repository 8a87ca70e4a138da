"""Where a pair of models comes from: its name or its files, and what identifies their content."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass

import torch

import sdvar
from sdvar.checkpoints import bundled_files, local_file, sha256

DTYPES = {
    "64-true": torch.float64,
    "32-true": torch.float32,
    "bf16-true": torch.bfloat16,
    "16-true": torch.float16,
}
PRECISIONS = tuple(DTYPES)


@dataclass(frozen=True)
class PairFiles:
    """Checkpoint files of a pair, on disk or on the hub.

    Args:
        draft: the small VAR; a path, a hub file or a released file's short name, see `sdvar.load_var`.
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


def with_draft(pair: sdvar.ModelPair, draft: str, precision: str) -> sdvar.ModelPair:
    """A pair with another draft; the target and the tokenizer are not copied.

    Args:
        pair: the models.
        draft: a checkpoint, as `PairFiles.draft`.
        precision: one of `DTYPES`.

    Raises:
        ValueError: the checkpoint cannot be read or does not fit the pair.
    """
    model = sdvar.load_var(draft, pair.pyramid.patch_nums, pair.device, DTYPES[precision])
    try:
        return sdvar.ModelPair(model, pair.target, pair.tokenizer)
    except ValueError as error:
        raise ValueError(f"{draft} does not go with the target and the tokenizer: {error}") from None


@functools.cache
def digest(file: str) -> str:
    """SHA-256 of a weights file."""
    return sha256(local_file(file))


@functools.cache
def digests(source: str | PairFiles) -> dict[str, str]:
    """SHA-256 of each weights file, by the model's name."""
    files = asdict(source) if isinstance(source, PairFiles) else bundled_files(source)
    return {name: sha256(local_file(file)) for name, file in files.items()}
