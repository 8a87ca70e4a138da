"""Where a pair of models comes from: its name or its files, and what identifies their content."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import sdvar
from sdvar import checkpoints
from sdvar.checkpoints import bundled_files
from sdvar.drafts import of_target

DTYPES = {"64-true": torch.float64, "32-true": torch.float32, "bf16-true": torch.bfloat16, "16-true": torch.float16}
PRECISIONS = tuple(DTYPES)
PRECISION_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class PairFiles:
    """Checkpoint files of a pair, on disk or on the hub.

    Args:
        draft: the small VAR; a path, a hub file or a released file's short name, see `sdvar.load_var`; or what is made
            of the target, see `sdvar.draft_of`.
        target: the large VAR.
        tokenizer: the VQVAE of both.
    """

    draft: str
    target: str
    tokenizer: str


@dataclass(frozen=True)
class BundledPair:
    """A bundled pair with another draft.

    Args:
        pair: its name.
        draft: what is made of its target, see `sdvar.draft_of`.
    """

    pair: str
    draft: str


PairSource = str | PairFiles | BundledPair


def source_of(pair: str | None, draft: str | None, target: str | None, tokenizer: str | None) -> PairSource:
    """A pair by the four options of a command; either ``pair`` is given, or target and tokenizer with a draft."""
    if pair is None:
        return PairFiles(str(draft), str(target), str(tokenizer))
    return pair if draft is None else BundledPair(pair, draft)


def load(source: PairSource, precision: str) -> sdvar.ModelPair:
    """Loads a pair into the CPU's memory.

    Args:
        source: name of a bundled pair, that with another draft, or the files.
        precision: one of `DTYPES`.

    Raises:
        ValueError: as `sdvar.load_pair`.
    """
    given = {"pair": source} if isinstance(source, str) else asdict(source)
    return sdvar.load_pair(**given, dtype=DTYPES[precision])


def with_draft(pair: sdvar.ModelPair, draft: str, precision: str) -> sdvar.ModelPair:
    """A pair with another draft; the target and the tokenizer are not copied.

    Args:
        pair: the models.
        draft: as `PairFiles.draft`.
        precision: one of `DTYPES`.

    Raises:
        ValueError: the checkpoint cannot be read or does not fit the pair.
    """
    if of_target(draft):
        return sdvar.ModelPair(sdvar.draft_of(pair.target, draft), pair.target, pair.tokenizer)
    model = sdvar.load_var(draft, pair.pyramid.patch_nums, pair.device, DTYPES[precision])
    try:
        return sdvar.ModelPair(model, pair.target, pair.tokenizer)
    except ValueError as error:
        raise ValueError(f"{draft} does not go with the target and the tokenizer: {error}") from None


@functools.cache
def digest(file: str) -> str:
    """What identifies the weights that a file, or ``FILE::PATH``, names."""
    return checkpoints.digest(file)


@functools.cache
def digests(source: PairSource) -> dict[str, str]:
    """What identifies the weights of each file, by the model's name; a draft that is made of the target has no file."""
    files: dict[str, str | Path] = {}
    if isinstance(source, PairFiles):
        files |= asdict(source)
    else:
        files |= bundled_files(source if isinstance(source, str) else source.pair)
    if not isinstance(source, str) and of_target(source.draft):
        del files["draft"]
    return {name: checkpoints.digest(file) for name, file in files.items()}
