"""What a pass gives for some scales: guided logits, and the tokens where a kernel has picked them already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor


class Logits:
    """Guided, temperature-scaled logits of T positions of n images.

    Where tokens are picked by a kernel that reads the model's own logits, the guided ones are made only if a rule reads
    them. To be read before the model's next pass: a CUDA graph writes its logits to the same memory each time.

    Args:
        make: makes the guided logits, (n, T, V).
        picked: int64 (n, T), where the kernel has picked.
        agreed: int32 (n, drafted scales), where it has compared: how many tokens of each scale are the drafted ones.
    """

    def __init__(self, make: Callable[[], Tensor], picked: Tensor | None = None, agreed: Tensor | None = None) -> None:
        self._make, self.picked, self.agreed = make, picked, agreed

    @cached_property
    def guided(self) -> Tensor:
        """(n, T, V)."""
        return self._make()

    def __getitem__(self, rows: Tensor | slice) -> Logits:
        """Those of some images; what was compared stays behind."""
        return Logits(lambda: self.guided[rows], None if self.picked is None else self.picked[rows])

    def split(self, counts: Sequence[int]) -> list[Logits]:
        """Those of each scale, from the scales' positions; what was compared stays behind."""
        picked = [None] * len(counts) if self.picked is None else self.picked.split(list(counts), dim=1)
        ends = [sum(counts[: k + 1]) for k in range(len(counts))]
        return [self._part(end - count, end, part) for count, end, part in zip(counts, ends, picked)]

    def _part(self, start: int, end: int, picked: Tensor | None) -> Logits:
        return Logits(lambda: self.guided[:, start:end], picked)


def joined(parts: Sequence[Logits], rows: Tensor | slice) -> Logits:
    """Logits of several passes in one, their images in the order ``rows``."""
    if len(parts) == 1:
        return parts[0][rows]
    picked = [part.picked for part in parts if part.picked is not None]
    return Logits(lambda: torch.cat([part.guided for part in parts])[rows], torch.cat(picked)[rows] if picked else None)
