"""Images that a run has kept, as tokens: what a draft can be trained on without sampling anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_modules.arm import BASELINE
from lightning_modules.run.finished import FinishedRun, read_run
from lightning_modules.sampling_options import SAMPLING


@dataclass(frozen=True)
class StoredImages:
    """Labels and tokens of N images.

    Args:
        labels: int64 (N,).
        tokens: int64 (N, L).
        seed: of the order, which is another one in each pass over them.
    """

    labels: Tensor
    tokens: Tensor
    seed: int = 0

    def images(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Labels and tokens of images by number, from 0 without end: int64 (n,) and (n, L)."""
        count = len(self.labels)
        rows = [int(self._order(number // count)[number % count]) for number in numbers.tolist()]
        return self.labels[rows], self.tokens[rows]

    def _order(self, epoch: int) -> np.ndarray:
        return np.argsort(np.random.Philox(key=[self.seed, epoch]).random_raw(len(self.labels)), kind="stable")


def read_stored(
    out: Path | str, weights: Mapping[str, str], sampling: Mapping[str, Any], patch_nums: tuple[int, ...], seed: int
) -> StoredImages:
    """The baseline's images of a finished run.

    Args:
        out: the run's folder.
        weights: digests of target and tokenizer.
        sampling: arguments of `sdvar.Sampling` that the draft is trained for.
        patch_nums: of the target.
        seed: of the order.

    Raises:
        ValueError: it is no finished run with a baseline and its tokens, or one of other weights, another pyramid or
            another sampling.
    """
    run = read_run(out)
    if BASELINE not in [arm.name for arm in run.arms]:
        raise ValueError(f"data: {out} has no arm {BASELINE}; expected a run with one")
    for what, ours, theirs in (
        ("patch_nums", list(patch_nums), list(run.patch_nums)),
        *((f"weights of the {name}", weights[name], run.weights.get(name)) for name in ("target", "tokenizer")),
        *((f"sampling.{name}", _plain(sampling.get(name)), _plain(run.sampling.get(name))) for name in SAMPLING),
    ):
        if ours != theirs:
            raise ValueError(f"data: {out} was made with {what} {theirs}, expected {ours}; give a run that fits")
    return StoredImages(*_baseline(run), seed)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _baseline(run: FinishedRun) -> tuple[Tensor, Tensor]:
    """Labels and tokens of the baseline's images, batch by batch."""
    labels = {int(row["index"]): int(row["label"]) for row in run.folder.manifest(BASELINE).read()}
    tokens, order = [], sorted(labels)
    for row in run.folder.batches(BASELINE).read():
        shape = run.batch_size, run.length
        batch = run.folder.read_tokens(BASELINE, int(row["batch"]), shape, row["tokens_sha256"])
        if batch is None:
            raise ValueError(f"data: the tokens of batch {row['batch']} of {run.folder.path} are missing or damaged")
        tokens.append((int(row["batch"]), batch))
    joined = np.concatenate([batch for _, batch in sorted(tokens, key=lambda pair: pair[0])])[: len(order)]
    return torch.tensor([labels[index] for index in order]), torch.from_numpy(joined)
