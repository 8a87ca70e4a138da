"""Decodes of the same images in different ways, and how they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import sdvar
from sdvar.pictures import rounded


class Decoded(NamedTuple):
    """What was decoded of n images, on the CPU.

    Attributes:
        tokens: int64 (n, L).
        pixels: uint8 (n, H, W, 3); None without images.
    """

    tokens: Tensor
    pixels: Tensor | None

    def differing(self, other: Decoded) -> int:
        """Images whose tokens differ, among those that both have."""
        both = min(len(self.tokens), len(other.tokens))
        return int((self.tokens[:both] != other.tokens[:both]).any(1).sum())

    def changed_pixels(self, other: Decoded) -> int:
        """Numbers of the pixels that differ, among the images that both have."""
        assert self.pixels is not None and other.pixels is not None
        both = min(len(self.pixels), len(other.pixels))
        return int((self.pixels[:both] != other.pixels[:both]).sum())


def labels_of(pair: sdvar.ModelPair, count: int) -> list[int]:
    """Labels of images 0, 1, …, spread over the classes; an image's seed is its number."""
    return [image * 7 % pair.num_classes for image in range(count)]


def decode(
    pair: sdvar.ModelPair,
    count: int,
    strategy: sdvar.Strategy,
    sampling: sdvar.Sampling,
    together: int | None = None,
    images: bool = False,
) -> Decoded:
    """Decode images 0 … count - 1.

    Args:
        together: images in a batch; all of them if None.
    """
    labels, parts = labels_of(pair, count), []
    for start in range(0, count, together or count):
        batch = range(start, min(count, start + (together or count)))
        result = sdvar.decode(pair, [labels[i] for i in batch], batch, strategy, sampling, images)
        pixels = None if result.images is None else rounded(result.images.cpu())
        parts.append(Decoded(joined(result.tokens), pixels))
    pixels = torch.cat([part.pixels for part in parts]) if images else None  # type: ignore[misc]
    return Decoded(torch.cat([part.tokens for part in parts]), pixels)


def joined(tokens: Sequence[Tensor]) -> Tensor:
    """K token maps as (B, L) on the CPU."""
    return torch.cat([part.cpu() for part in tokens], dim=1)
