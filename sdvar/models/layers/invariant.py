"""Calls on many rows whose results are, bit for bit, those of calls on a fixed number of rows.

A library of linear algebra chooses by the shape of a call in which order it adds: a kernel of its own for one row, a
sum that is split between threads. So the last bits of a row's result follow the rows beside it. Here the call on one
block of rows defines the result. More rows share a call only where that has been tried and gives the same bits; the
rest is cut into calls that do, filled up with zeros to whole blocks. Speed therefore never decides what is computed.

Batch-invariant inference of language models does the same with kernels of one fixed tile (He et al. 2025, "Defeating
Nondeterminism in LLM Inference").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

# Rows of a block, the first that serves: small ones waste little of a coarse scale, large ones suit more kernels
BLOCKS = {"cpu": (8, 16, 32), "cuda": (64, 128)}

Call = Callable[[Tensor], Tensor]


class RowBlocks:
    """How a function of rows is cut into calls.

    Args:
        make: makes the call that is tried, (m, in) -> (m, out), each row of its result a function of the same row of
            its argument. Made for a trial only: it may hold weights.
        rows: (m, in) of numbers with which a sum in another order shows. All m are tried.
        blocks: candidates for the block; those of the rows' device if None.

    Attributes:
        block: rows of the call that defines the results.
    """

    def __init__(self, make: Callable[[], Call], rows: Tensor, blocks: Sequence[int] | None = None) -> None:
        self._make, self._rows = make, rows
        call = make()
        *candidates, last = blocks or BLOCKS[rows.device.type]
        for block in candidates:
            self._define(block, call)
            if self._same_in_every_place(call) and all(self._try(n, call) for n in _grid(block, len(rows))):
                break
        else:
            self._define(last, call)
        self._calls: dict[int, tuple[tuple[int, int], ...]] = {}

    def calls(self, rows: int) -> tuple[tuple[int, int], ...]:
        """Start and size of the calls for so many rows; the last may end after them."""
        if rows not in self._calls:
            untried = [size for size in _grid(self.block, rows) if size not in self._agrees]
            if untried and self._rows.is_cuda:  # trials cost little there: later, smaller sizes then need none
                call = self._make()
                for size in untried:
                    self._try(size, call)
            self._calls[rows] = tuple(self._cut(-(-rows // self.block) * self.block))
        return self._calls[rows]

    def agrees(self, size: int) -> bool:
        """Whether a call on so many rows, a multiple of the block, gives what calls on blocks give.

        Kernels are chosen by thresholds, so a size between two tried ones that agree is taken to agree.
        """
        *_, below, at_least = 0, *_grid(self.block, size)
        return self._try(at_least) and (size == at_least or self._try(below))

    def _cut(self, end: int) -> Iterator[tuple[int, int]]:
        start = 0
        while start < end:
            size = end - start
            if not self.agrees(size):
                size = max(n for n in _grid(self.block, size) if n < size and self._try(n))
            yield start, size
            start += size

    def _define(self, block: int, call: Call) -> None:
        self.block = block
        self._expected = torch.cat([call(part) for part in self._rows.split(block)])
        self._agrees: dict[int, bool] = {}

    def _try(self, size: int, call: Call | None = None) -> bool:
        if size not in self._agrees:
            repeats = -(-size // len(self._rows))
            got = (call or self._make())(self._rows.repeat(repeats, 1)[:size])
            same = [(part == self._expected[: len(part)]).all() for part in got.split(len(self._rows))]
            self._agrees[size] = bool(torch.stack(same).all())
        return self._agrees[size]

    def _same_in_every_place(self, call: Call) -> bool:
        """Whether a row's result does not depend on its place in the block."""
        return bool((call(self._rows[1 : self.block + 1]) == self._expected[1 : self.block + 1]).all())


def _grid(block: int, size: int) -> Iterator[int]:
    """Sizes that are tried, up to the first that is at least ``size``: 1, 2, … 8 blocks, then two per octave."""
    n = block
    while True:
        yield n
        if n >= size:
            return
        power = 1 << (n.bit_length() - 1)
        n = n + block if n < 8 * block else n + power // 2
