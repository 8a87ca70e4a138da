"""Digests of an arm's images: in full for the run's manifest, in short for each image of a claim.

Short digests are enough for a claim: whoever checks it makes the images, so that nobody can search for others with the
same digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_modules.columns import PER_IMAGE
from lightning_modules.run.finished import FinishedRun

PNG_DIGITS = 16  # hexadecimal digits of a claim's digest of a PNG file
SCALE_DIGITS = 4  # and of the tokens of one scale
MISSING = "-"  # in place of the digests of tokens that were not kept


@dataclass(frozen=True)
class ImageRecord:
    """An image of an arm as its run recorded it.

    Attributes:
        index, label, seed: of the image; the seed is the one that the arm decoded with.
        sha256: of its PNG file.
        tokens: its L tokens, int64; None where the run did not keep them, or they are damaged.
        counts: calls and tokens of both models, in the order of `PER_IMAGE`.
    """

    index: int
    label: int
    seed: int
    sha256: str
    tokens: np.ndarray | None
    counts: tuple[int, ...]

    @property
    def row(self) -> str:
        """The image's line in what `manifest_digest` is the digest of."""
        tokens = "" if self.tokens is None else hashlib.sha256(_bytes(self.tokens)).hexdigest()
        return f"{self.index},{self.label},{self.seed},{self.sha256},{tokens}\n"


def image_records(run: FinishedRun, arm: str) -> Iterator[ImageRecord]:
    """The images of an arm, by index, from its tables and its kept tokens."""
    rows = sorted(run.folder.manifest(arm).read(), key=lambda row: int(row["index"]))
    recorded = {int(row["batch"]): row["tokens_sha256"] for row in run.folder.batches(arm).read()}
    for start in range(0, len(rows), run.batch_size):
        batch, shape = start // run.batch_size, (run.batch_size, run.length)
        kept = run.folder.read_tokens(arm, batch, shape, recorded.get(batch, ""))
        for place, row in enumerate(rows[start : start + run.batch_size]):
            yield ImageRecord(
                index=int(row["index"]),
                label=int(row["label"]),
                seed=int(row["seed"]),
                sha256=row["sha256"],
                tokens=None if kept is None else kept[place],
                counts=tuple(int(row[name]) for name in PER_IMAGE),
            )


def manifest_digest(rows: Iterable[str]) -> str:
    """SHA-256 over the images of an arm, see `ImageRecord.row`."""
    total = hashlib.sha256()
    for row in rows:
        total.update(row.encode())
    return total.hexdigest()


def images_digest(index: Iterable[int], labels: Iterable[int], seeds: Iterable[int]) -> str:
    """SHA-256 of the images that a run decodes: a line ``index,label,seed`` for each."""
    return manifest_digest(f"{i},{label},{seed}\n" for i, label, seed in zip(index, labels, seeds))


def short_png(sha256: str) -> str:
    """A claim's digest of a PNG file."""
    return sha256[:PNG_DIGITS]


def short_tokens(tokens: np.ndarray | None, patch_nums: Sequence[int]) -> str:
    """A claim's digest of the tokens (L,) of an image: `SCALE_DIGITS` for each scale."""
    if tokens is None:
        return MISSING
    ends = np.cumsum([side * side for side in patch_nums])
    scales = np.split(tokens, ends[:-1])
    return "".join(hashlib.sha256(_bytes(scale)).hexdigest()[:SCALE_DIGITS] for scale in scales)


def first_scale(claimed: str, found: str) -> int | None:
    """The first scale in which two digests of `short_tokens` differ; None if they are the same."""
    starts = range(0, max(len(claimed), len(found)), SCALE_DIGITS)
    differing = (start for start in starts if claimed[start : start + SCALE_DIGITS] != found[start:][:SCALE_DIGITS])
    return next((start // SCALE_DIGITS for start in differing), None)


def _bytes(tokens: np.ndarray) -> bytes:
    return tokens.astype("<u4").tobytes()
