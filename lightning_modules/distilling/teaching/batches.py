"""What a loop of Lightning goes through: batches that are no more than their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


class Batches:
    """Items in order, which go on after the last one that was taken when a checkpoint is loaded.

    Args:
        items: numbers of batches, or tuples of numbers of images.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        self.items, self.taken = items, 0

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        start = self.taken if self.taken < len(self.items) else 0
        for number in range(start, len(self.items)):
            self.taken = number + 1
            yield self.items[number]

    def state_dict(self) -> dict[str, int]:
        """How many were taken."""
        return {"taken": self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after so many."""
        self.taken = state["taken"]
