"""Decoded images as files."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from sdvar.decoding.result import DecodeResult
from sdvar.system.atomic import write_atomically


def save_images(images: DecodeResult | Tensor, folder: str | os.PathLike) -> list[Path]:
    """Writes images as PNG files ``000000.png``, ``000001.png``, … of a folder.

    Args:
        images: what `sdvar.decode` returned, or floats (B, 3, H, W) in [0, 1].
        folder: made if need be; files of these names are replaced.

    Returns:
        The files.

    Raises:
        TypeError, ValueError: for something else, or a result that was decoded without images.
    """
    if isinstance(images, DecodeResult):
        images = _given(images.images)
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise TypeError(f"images: expected the result of sdvar.decode, or floats (B, 3, H, W); got {_kind(images)}")
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(f"images: expected (B, 3, H, W), got {tuple(images.shape)}")
    if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
        raise ValueError(f"folder: expected the path of a folder, got {folder!r:.60}")
    path = Path(folder).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    pixels = rounded(images).cpu()
    files = [path / f"{number:06d}.png" for number in range(len(pixels))]
    for file, image in zip(files, pixels):
        write_atomically(file, _png(image), sync=False)
    return files


def rounded(images: Tensor) -> Tensor:
    """Images in [0, 1], (B, 3, H, W), as uint8 (B, H, W, 3)."""
    return images.mul(255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _given(images: Tensor | None) -> Tensor:
    if images is None:
        raise ValueError("images: the result has none; decode with images=True")
    return images


def _kind(value: object) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _png(image: Tensor) -> bytes:
    """A PNG of a uint8 (H, W, 3) image; `sdvar` alone needs no library for it."""
    height, width, _ = image.shape
    rows = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), image.reshape(height, -1)], dim=1)  # filter 0 each
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.contiguous().numpy().tobytes())), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
