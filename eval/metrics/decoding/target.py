"""The target that a run's tokens are scored under, and the scores of an arm."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import sdvar
from eval.metrics.progress import progress
from lightning_modules import pair_source
from sdvar import checkpoints
from sdvar.audit import Scores, score
from sdvar.engine import tf32_allowed

if TYPE_CHECKING:
    from lightning_modules.predictor import SDVARPredictor
    from lightning_modules.run.finished import FinishedRun

MODELS = ("target", "tokenizer")


@dataclass(frozen=True)
class Target:
    """The models of a run, to score tokens with.

    Attributes:
        pair: the draft is not run.
        sampling: of the baseline.
        tf32: let a GPU round products as decoding did.
        quiet: no progress line.
    """

    pair: sdvar.ModelPair
    sampling: sdvar.Sampling
    tf32: bool = False
    quiet: bool = False
    _scored: dict[tuple, Scores] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, predictor: SDVARPredictor, quiet: bool) -> Target:
        """The models that have decoded just now."""
        return cls(predictor.pair, predictor.sampling, predictor.engine.tf32, quiet)

    def score(self, run: FinishedRun, arm: str, at_most: int, repeats: int = 1) -> tuple[list[Scores], int]:
        """Scores of an arm's images, of every n-th one if there are more than asked for.

        A batch whose tokens an earlier arm had is not scored again: exact arms have the baseline's, and take no pass.

        Returns:
            The scores of each repeat that has any tokens, and the number of images that have none because theirs are
            missing or damaged.
        """
        parts: dict[int, list[Scores]] = {}
        missing = 0
        batches = list(_batches(run, arm, at_most, repeats))
        with tf32_allowed(self.tf32), progress(len(batches), f"likelihood of {arm}", " batches", self.quiet) as bar:
            for repeat, rows, recorded in batches:
                bar.update()
                batch = *(tuple(int(row[name]) for row in rows) for name in ("row", "label", "seed")), recorded
                scores = self._scored.get(batch) or self._score_batch(run, arm, rows, recorded)
                if scores is None:
                    missing += len(rows)
                    continue
                self._scored[batch] = scores
                parts.setdefault(repeat, []).append(scores)
        return [Scores.joined(of_repeat) for of_repeat in parts.values()], missing

    def _score_batch(
        self, run: FinishedRun, arm: str, rows: Sequence[Mapping[str, str]], recorded: str
    ) -> Scores | None:
        number = int(rows[0]["batch"])
        kept = run.folder.read_tokens(arm, number, (run.batch_size, run.length), recorded)
        if kept is None or kept.max() >= self.pair.target.codebook_size:
            return None
        tokens: Sequence[Tensor] = self.pair.pyramid.split(torch.from_numpy(kept[[int(row["row"]) for row in rows]]))
        labels, seeds = ([int(row[name]) for row in rows] for name in ("label", "seed"))
        return score(self.pair, labels, seeds, tokens, self.sampling)


def _batches(run: FinishedRun, arm: str, at_most: int, repeats: int) -> Iterator[tuple[int, list[dict[str, str]], str]]:
    """By repeat and batch the images' rows, with its number in ``batch`` and theirs in ``row``, and its digest."""
    rows = sorted(run.folder.manifest(arm).read(), key=lambda row: int(row["index"]))
    digests = {int(row["batch"]): row["tokens_sha256"] for row in run.folder.batches(arm).read()}
    some = range(0, len(rows), math.ceil(len(rows) / at_most))
    parts = itertools.groupby(some, lambda place: (place * repeats // len(rows), place // run.batch_size))
    for (repeat, number), places in parts:
        of_batch = [rows[place] | {"batch": str(number), "row": str(place % run.batch_size)} for place in places]
        yield repeat, of_batch, digests.get(number, "")


def target_or_reason(run: FinishedRun, target: str | None, tokenizer: str | None) -> Target | str:
    """As `load_target`; where the run's own files cannot be used, why.

    Raises:
        ValueError: a file that is given cannot be used.
    """
    try:
        return load_target(run, target, tokenizer)
    except (ValueError, OSError) as error:
        if target or tokenizer:
            raise
        return str(error)


def load_target(run: FinishedRun, target: str | None = None, tokenizer: str | None = None) -> Target:
    """The target that decoded a run, from the files that the run names or from others with the same content.

    A run's folder may come from anybody: it makes nothing be downloaded, and files are read without running code.

    Args:
        run: whose target.
        target, tokenizer: in place of the files that the run names, which may lie elsewhere now.

    Raises:
        ValueError: what is missing, in one line.
    """
    try:
        sampling = sdvar.Sampling(**run.sampling)
    except TypeError as error:
        raise ValueError(f"the run's sampling is damaged: {error}") from None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    given = {"target": target, "tokenizer": tokenizer}
    bundled = run.source if isinstance(run.source, str) else (run.source or {}).get("pair")
    files = {name: given[name] or _named(run, name, bundled) for name in MODELS}
    for name, file in files.items():
        recorded = run.weights.get(name)
        if recorded and checkpoints.digest(file) != recorded:
            raise ValueError(f"{file} is not the {name} that the run decoded with (its SHA-256 differs); give --{name}")
    if run.precision not in pair_source.DTYPES:
        raise ValueError(f"the run's precision: expected one of {', '.join(pair_source.DTYPES)}, got {run.precision}")
    dtype = pair_source.DTYPES[run.precision]
    model = sdvar.load_var(files["target"], run.patch_nums, device, dtype)
    decoder = sdvar.load_tokenizer(files["tokenizer"], run.patch_nums, device, dtype).drop_encoder()
    return Target(sdvar.ModelPair(model, model, decoder), sampling)


def _named(run: FinishedRun, name: str, bundled: str | None) -> Path | str:
    """The file that a run names."""
    if bundled is not None:
        return checkpoints.bundled_files(bundled)[name]
    file = (run.source or {}).get(name)
    if not isinstance(file, str):
        raise ValueError(f"the run does not name its {name}; give --{name} FILE")
    if not Path(file.partition("::")[0]).exists():
        raise ValueError(f"the run's {name}, {file}, is not a file here; give --{name} FILE")
    return file
