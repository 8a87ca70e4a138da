"""A target's distributions of images, kept: which tokens its filters leave, a bit each, and their logits in float16."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pyarrow import ArrowException, parquet
from torch import Tensor

from lightning_modules.distilling.tokens.shards import AGAIN, DISTRIBUTIONS

OPEN_FILES = 64


def pack(logits: Tensor) -> dict[str, list[bytes]]:
    """Filtered logits (B, T, V), -inf where a token is dropped, as the columns of a shard.

    The best token of each place has 0, so those that are likely are rounded least: at x below it by at most 2**-11 x.
    """
    lowest = torch.finfo(torch.float16).min
    below = (logits - logits.amax(-1, keepdim=True)).clamp_min(lowest).half().cpu().numpy()
    kept = logits.isfinite().cpu().numpy()
    bits, values = DISTRIBUTIONS
    return {
        bits: [np.packbits(mask, axis=-1).tobytes() for mask in kept],
        values: [image[mask].tobytes() for image, mask in zip(below, kept)],
    }


def unpack(kept: Sequence[bytes], logits: Sequence[bytes], codebook: int, device: torch.device) -> Tensor:
    """The logits again, up to a constant for each place: float32 (B, T, ``codebook``)."""
    packed = torch.frombuffer(bytearray(b"".join(kept)), dtype=torch.uint8).to(device)
    values = torch.frombuffer(bytearray(b"".join(logits)), dtype=torch.float16).to(device)
    packed = packed.view(len(kept), -1, -(-codebook // 8), 1)
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)  # the first token has the highest bit
    mask = ((packed >> places) & 1).flatten(2)[..., :codebook].bool()
    return torch.full(mask.shape, -torch.inf, device=device).masked_scatter_(mask, values.float())


class Distributions:
    """Those of the images of some shards. They are read when they are asked for: many do not fit into memory.

    Args:
        files: the shards.
        counts: their images.
        order: int64 (N,), where each image lies among those of all shards one after another.
    """

    def __init__(self, files: Sequence[Path], counts: Sequence[int], order: np.ndarray) -> None:
        self.files, self.order, self.starts = list(files), order, np.cumsum([0, *counts])
        self._open = functools.lru_cache(OPEN_FILES)(lambda file: parquet.ParquetFile(file, memory_map=True))

    def read(self, rows: Sequence[int], codebook: int, device: torch.device) -> Tensor:
        """Filtered logits of some images, float32 (n, T, ``codebook``).

        Raises:
            ValueError: a shard is damaged.
        """
        columns = zip(*(self._row(int(self.order[row])) for row in rows))
        return unpack(*columns, codebook, device)

    def _row(self, place: int) -> tuple[bytes, bytes]:
        shard = int(np.searchsorted(self.starts, place, side="right")) - 1
        file = self.files[shard]
        try:
            group = self._open(file).read_row_group(place - int(self.starts[shard]), columns=list(DISTRIBUTIONS))
            bits, values = (group[name][0].as_py() for name in DISTRIBUTIONS)
        except (ArrowException, OSError, KeyError) as error:
            raise ValueError(f"tokens: {file} is damaged ({' '.join(str(error).split())}); {AGAIN}") from None
        return bits, values
