"""Images that are kept as tokens: what a draft can be trained on without sampling anew."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_modules.distilling.tokens.distributions import Distributions
from lightning_modules.distilling.tokens.shards import Origin, read_columns, read_origin, shards
from lightning_modules.options.sampling import SAMPLING
from lightning_modules.run.finished import FinishedRun, read_run
from lightning_modules.run.names import BASELINE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredImages:
    """Labels and tokens of N images.

    Args:
        labels: int64 (N,).
        tokens: of any integer type (N, L); uint16 takes 1.4 kB an image of 680 tokens.
        seed: of the order, which is another one in each pass over them.
        distributions: of the target, if they are stored too.
    """

    labels: np.ndarray
    tokens: np.ndarray
    seed: int = 0
    distributions: Distributions | None = None

    def images(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Labels and tokens of images by number, from 0 without end: int64 (n,) and (n, L)."""
        rows = self._rows(numbers)
        return torch.from_numpy(self.labels[rows]), torch.from_numpy(self.tokens[rows].astype(np.int64))

    def logits(self, numbers: Tensor, codebook: int, device: torch.device) -> Tensor:
        """The target's of the same images, filtered: float32 (n, L, ``codebook``)."""
        assert self.distributions is not None
        return self.distributions.read(self._rows(numbers), codebook, device)

    def _rows(self, numbers: Tensor) -> list[int]:
        count = len(self.labels)
        return [int(_order(self.seed, number // count, count)[number % count]) for number in numbers.tolist()]

    def digest(self) -> str:
        """SHA-256 of labels and tokens, and of whether there are distributions, which follow from them."""
        digest = hashlib.sha256(self.labels.tobytes() + np.ascontiguousarray(self.tokens).data)
        digest.update(b"distributions" if self.distributions else b"")
        return digest.hexdigest()


@functools.lru_cache(maxsize=2)  # a batch may lie across two passes
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.argsort(np.random.Philox(key=[seed, epoch]).random_raw(count), kind="stable")


@dataclass(frozen=True)
class Wanted:
    """What a draft is trained for.

    Attributes:
        weights: digests of "target" and "tokenizer".
        sampling: arguments of `sdvar.Sampling`.
        patch_nums: sides of the scales.
        classes: of the target.
    """

    weights: Mapping[str, str]
    sampling: Mapping[str, Any]
    patch_nums: tuple[int, ...]
    classes: int


def read_stored(path: Path | str, wanted: Wanted, seed: int) -> StoredImages:
    """The images of a folder of token shards, or those of a finished run's baseline.

    Args:
        path: of the folder.
        wanted: what they have to fit.
        seed: of the order.

    Raises:
        ValueError: there are neither shards nor a finished run with a baseline; or they are of other weights, another
            pyramid or another sampling, or damaged.
    """
    path = Path(path).expanduser()
    files, distributions = shards(path), None
    if files:
        labels, tokens, distributions = _of_shards(path, files, wanted)
    else:
        labels, tokens = _of_baseline(path, wanted)
    if labels.min() < 0 or labels.max() >= wanted.classes:
        got = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"tokens: {path}: expected labels 0 to {wanted.classes - 1}, got {got}")
    return StoredImages(labels, tokens, seed, distributions)


def _of_shards(path: Path, files: list[Path], wanted: Wanted) -> tuple[np.ndarray, np.ndarray, Distributions | None]:
    origins = [read_origin(file) for file in files]
    for origin in origins:
        _check_fit(path, wanted, origin)
    length = sum(side * side for side in wanted.patch_nums)
    columns = [read_columns(file, ["index", "label", "tokens"], length) for file in files]
    index, labels, tokens = (np.concatenate(parts) for parts in zip(*columns))
    if not len(index):
        raise ValueError(f"tokens: {path} has no images")
    _check_unique(files, origins, [of_file for of_file, *_ in columns])
    order = np.argsort(index, kind="stable")  # whatever processes wrote them
    with_them = sum(origin.distributions for origin in origins)
    if with_them == len(files):
        return labels[order], tokens[order], Distributions(files, [len(of_file) for of_file, *_ in columns], order)
    if with_them:
        log.warning("tokens: %d of %d files in %s hold distributions: the target runs", with_them, len(files), path)
    return labels[order], tokens[order], None


def _check_unique(files: list[Path], origins: list[Origin], indices: list[np.ndarray]) -> None:
    """Refuses an image that is there twice, as in a copy of a shard: a training would see it more often."""
    seen: dict[tuple[str, int | None], np.ndarray] = {}
    for file, origin, index in zip(files, origins, indices):
        key, before = (origin.source, origin.seed), seen.get((origin.source, origin.seed), index[:0])
        twice = np.intersect1d(before, index)
        if len(twice) or len(np.unique(index)) < len(index):
            raise ValueError(f"tokens: {file} has images that another shard beside it has too; remove one of the two")
        seen[key] = np.concatenate([before, index])


def _check_fit(path: Path, wanted: Wanted, origin: Origin) -> None:
    ours = {"patch_nums": list(wanted.patch_nums), "weights of the tokenizer": wanted.weights["tokenizer"]}
    theirs: dict[str, Any] = {"patch_nums": list(origin.patch_nums), "weights of the tokenizer": origin.tokenizer}
    if origin.teacher is not None:  # else they are anybody's images, and no target's distributions
        ours["weights of the target"], theirs["weights of the target"] = wanted.weights["target"], origin.teacher
        ours |= {f"sampling.{name}": _plain(wanted.sampling.get(name)) for name in SAMPLING}
        theirs |= {f"sampling.{name}": _plain((origin.sampling or {}).get(name)) for name in SAMPLING}
    for what, expected in ours.items():
        if theirs[what] != expected:
            raise ValueError(
                f"tokens: {path} was made with {what} {theirs[what]}, expected {expected}; give tokens that fit"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _of_baseline(path: Path, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """Labels and tokens of the images of a run's baseline, batch by batch."""
    try:
        run = read_run(path)
    except ValueError as error:
        raise ValueError(f"tokens: {path} has no token shards; as a run: {str(error).removeprefix('out: ')}") from None
    if BASELINE not in [arm.name for arm in run.arms]:
        raise ValueError(f"tokens: {path} is a run without the arm {BASELINE}; expected one with it, or token shards")
    weights = [str(run.weights.get(name)) for name in ("tokenizer", "target")]
    _check_fit(path, wanted, Origin("target", weights[0], run.patch_nums, weights[1], run.sampling))
    labels = {int(row["index"]): int(row["label"]) for row in run.folder.manifest(BASELINE).read()}
    batches = [_batch(run, row) for row in run.folder.batches(BASELINE).read()]
    tokens = np.concatenate([batch for _, batch in sorted(batches, key=lambda pair: pair[0])])[: len(labels)]
    return np.array([labels[index] for index in sorted(labels)]), tokens


def _batch(run: FinishedRun, row: Mapping[str, str]) -> tuple[int, np.ndarray]:
    number, shape = int(row["batch"]), (run.batch_size, run.length)
    tokens = run.folder.read_tokens(BASELINE, number, shape, row["tokens_sha256"])
    if tokens is None:
        raise ValueError(f"tokens: those of batch {number} of {run.folder.path} are missing or damaged")
    return number, tokens.astype(np.uint16 if tokens.max() < 1 << 16 else np.uint32)
