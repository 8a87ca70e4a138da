"""The pyramid of token maps: the only place that computes a count, an offset or a mask."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from sdvar.rows import to_device


@dataclass(frozen=True)
class ScalePyramid:
    """Sides of the K token maps of an image, coarse to fine.

    Scale k (from 0) is a map of ``patch_nums[k]`` x ``patch_nums[k]`` tokens. Its tokens take the positions
    ``offsets[k]`` to ``offsets[k + 1]`` of a sequence of ``length`` tokens.

    Args:
        patch_nums: sides of the token maps, positive and non-decreasing.

    Raises:
        TypeError: if ``patch_nums`` is not a sequence of ints.
        ValueError: if it is empty, decreases or contains a side below 1.
    """

    patch_nums: tuple[int, ...]

    def __post_init__(self) -> None:
        try:
            sides = tuple(self.patch_nums)
        except TypeError:
            raise TypeError(
                f"patch_nums: expected a sequence of ints such as (1, 2, 3), got {self.patch_nums!r}"
            ) from None
        if not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
            raise TypeError(f"patch_nums: expected ints, got {sides!r}")
        if not sides or sides[0] < 1 or any(b < a for a, b in zip(sides, sides[1:])):
            raise ValueError(f"patch_nums: expected sides >= 1, none smaller than the one before, got {sides}")
        object.__setattr__(self, "patch_nums", sides)

    def __len__(self) -> int:
        return len(self.patch_nums)

    @functools.cached_property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of each scale, n_k."""
        return tuple(side * side for side in self.patch_nums)

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """First position of each scale, and ``length`` last: K + 1 ints."""
        offsets = [0]
        for count in self.tokens:
            offsets.append(offsets[-1] + count)
        return tuple(offsets)

    @property
    def length(self) -> int:
        """Tokens of the whole pyramid, L."""
        return self.offsets[-1]

    def span(self, first: int, last: int) -> slice:
        """Positions of the scales ``first`` <= k < ``last``."""
        return slice(self.offsets[first], self.offsets[last])

    def span_tokens(self, first: int, last: int) -> int:
        """Number of tokens of the scales ``first`` <= k < ``last``."""
        return self.offsets[last] - self.offsets[first]

    def split(self, sequence: Tensor, first: int = 0, last: int | None = None, dim: int = 1) -> tuple[Tensor, ...]:
        """Cut a sequence that holds the scales ``first`` <= k < ``last`` along ``dim`` into one tensor per scale."""
        return sequence.split(self.tokens[first:last], dim=dim)

    def scale_of_position(self, first: int = 0, last: int | None = None, device: torch.device | None = None) -> Tensor:
        """Scale number of each position of the scales ``first`` <= k < ``last``: int64 (tokens,)."""
        last = len(self) if last is None else last
        counts = torch.tensor(self.tokens[first:last], device=device)
        scales = torch.arange(first, last, device=device)
        # the size is given because the meta device cannot find it out
        return scales.repeat_interleave(counts, output_size=self.span_tokens(first, last))

    def addresses(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Scale number of each position and its number in the scale: two int32 (L,). Cached: do not write to them."""
        return _addresses(self, device)

    def block_causal_mask(
        self, first: int, last: int, visible_from: int = 0, device: torch.device | None = None
    ) -> Tensor:
        """Which keys a span of queries may see: a scale sees itself, all of it, and the scales before it.

        Args:
            first, last: the queries are the tokens of the scales ``first`` <= k < ``last``.
            visible_from: the keys are the tokens of the scales ``visible_from`` <= k < ``last``.

        Returns:
            bool (query tokens, key tokens), True where the key is visible. Cached: do not write to it.
        """
        return _block_causal_mask(self, first, last, visible_from, torch.device(device or "cpu"))


@functools.lru_cache(maxsize=16)
def _addresses(pyramid: ScalePyramid, device: torch.device) -> tuple[Tensor, Tensor]:
    scales = [k for k, count in enumerate(pyramid.tokens) for _ in range(count)]
    places = [place for count in pyramid.tokens for place in range(count)]
    with torch.inference_mode(False):
        both = to_device(torch.tensor((scales, places), dtype=torch.int32), device)
        return both[0].clone(), both[1].clone()


@functools.lru_cache(maxsize=256)
def _block_causal_mask(pyramid: ScalePyramid, first: int, last: int, visible_from: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a cached tensor must stay usable in training
        queries = pyramid.scale_of_position(first, last, device)
        keys = pyramid.scale_of_position(visible_from, last, device)
        return queries[:, None] >= keys[None, :]
