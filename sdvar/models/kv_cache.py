"""Static KV cache: allocated once, written in place, truncated by whoever counts the scales in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class CacheWindow(NamedTuple):
    """Which part of a cache's layer one pass uses.

    Attributes:
        rows: int64 (n,) cache rows of the pass, or None for all of them (which saves the gather).
        visible_from: first visible position.
        start: position where the keys of this pass begin.
        end: position where they end; the pass sees ``visible_from`` .. ``end``.
    """

    rows: Tensor | None
    visible_from: int
    start: int
    end: int


class KVCache:
    """Keys and values of every layer for a fixed number of rows and positions.

    Args:
        depth, rows, heads, length, head_width: extent of the cache; ``length`` is the pyramid's L.

    Positions past a row's committed scales may hold stale numbers: a pass only ever sees ``visible_from`` .. ``end``,
    and has just written the last of these itself. Truncation is therefore the caller's counter and costs nothing.
    """

    def __init__(
        self, depth: int, rows: int, heads: int, length: int, head_width: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (depth, rows, heads, length, head_width)
        with torch.inference_mode(False):  # a cache outlives a decode, and the next one may be under no_grad alone
            self.keys = torch.empty(shape, dtype=dtype, device=device)
            self.values = torch.empty(shape, dtype=dtype, device=device)

    def head(self, rows: int) -> KVCache:
        """The first rows, in the same memory."""
        view = object.__new__(KVCache)
        view.keys, view.values = self.keys[:, :rows], self.values[:, :rows]
        return view

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def copy(self, rows: Tensor | slice, source: KVCache, source_rows: Tensor, positions: int) -> None:
        """Take over the first ``positions`` positions of ``source_rows`` of another cache into ``rows``."""
        for ours, theirs in ((self.keys, source.keys), (self.values, source.values)):
            theirs = theirs[:, :, :, :positions]
            if isinstance(rows, slice):
                torch.index_select(theirs, 1, source_rows, out=ours[:, rows, :, :positions])
            else:
                ours[:, rows, :, :positions] = theirs.index_select(1, source_rows)

    def read(self, rows: Sequence[int], positions: slice) -> tuple[Tensor, Tensor]:
        """Keys and values of some rows and positions: each (depth, n, heads, T, head_width)."""
        return self.keys[:, rows, :, positions], self.values[:, rows, :, positions]

    def layer(self, layer: int) -> LayerCache:
        """What one layer of the model works on, in the same memory."""
        return LayerCache(self.keys[layer], self.values[layer])


class LayerCache(NamedTuple):
    """Keys and values of one layer, each (rows, heads, length, head_width)."""

    keys: Tensor
    values: Tensor

    def update(self, key: Tensor, value: Tensor, window: CacheWindow) -> tuple[Tensor, Tensor]:
        """Write the keys and values of a span and return all that the span may see.

        Args:
            key, value: (n, heads, end - start, head_width).
            window: where they belong.

        Returns:
            keys and values, each (n, heads, end - visible_from, head_width).
        """
        keys, values = self
        rows = slice(None) if window.rows is None else window.rows
        keys[rows, :, window.start : window.end] = key
        values[rows, :, window.start : window.end] = value
        return self.visible(window)

    def visible(self, window: CacheWindow) -> tuple[Tensor, Tensor]:
        """All keys and values that a span may see once its own are written, see `update`."""
        keys, values = (part[:, :, window.visible_from : window.end] for part in self)
        if window.rows is None:
            return keys, values
        return keys.index_select(0, window.rows), values.index_select(0, window.rows)
