"""What a run has yet to make, read from its folder before anything is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.run.folder import RunFolder
from lightning_modules.run.names import BASELINE


@dataclass(frozen=True)
class RunPlan:
    """What of each batch is missing in a run's folder.

    Attributes:
        folder: of the run.
        length: tokens per image, L.
        images: by arm, the images that are there.
        batches: by arm, the batches that have a row in its ``batches.csv``.
        tokens: by batch, the digest of the baseline's tokens.
    """

    folder: RunFolder
    length: int
    images: Mapping[str, frozenset[int]]
    batches: Mapping[str, frozenset[int]]
    tokens: Mapping[int, str]

    @classmethod
    def read(cls, folder: RunFolder, arms: Iterable[str], length: int) -> RunPlan:
        """The plan of an open folder, whose tables are merged."""
        arms = list(arms)
        images = {arm: frozenset(int(row["index"]) for row in folder.manifest(arm).read()) for arm in arms}
        tokens = {arm: {int(row["batch"]): row["tokens_sha256"] for row in folder.batches(arm).read()} for arm in arms}
        batches = {arm: frozenset(of_arm) for arm, of_arm in tokens.items()}
        return cls(folder, length, images, batches, tokens.get(BASELINE, {}))

    def of_batch(self, batch: int, index: Tensor, mask: Tensor) -> dict[str, object]:
        """What travels with a batch.

        Args:
            batch: its number.
            index: of its images, int64 (B,).
            mask: bool (B,), False for rows that only fill up the batch.

        Returns:
            - ``missing``: by arm that has to decode the batch, which images it has yet to write, bool (B,);
            - ``baseline_tokens``: the tokens of the baseline's images, int64 (B, L), if the baseline need not decode
              the batch but other arms, which are compared with it, do.
        """
        missing = {
            arm: torch.tensor([wanted and i not in there for i, wanted in zip(index.tolist(), mask.tolist())])
            for arm, there in self.images.items()
        }
        missing = {arm: lacks for arm, lacks in missing.items() if lacks.any() or batch not in self.batches[arm]}
        if missing and BASELINE in self.images and BASELINE not in missing:
            tokens = self.folder.read_tokens(BASELINE, batch, (len(index), self.length), self.tokens[batch])
            if tokens is not None:
                return {"missing": missing, "baseline_tokens": torch.from_numpy(tokens)}
            missing = {BASELINE: torch.zeros_like(mask), **missing}  # it decodes once more, for its tokens
        return {"missing": missing}
