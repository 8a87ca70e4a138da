"""Images as the report's page holds them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SMALL = 64  # pixels a side; up to here the page holds the file itself, above a compressed copy
QUALITY, ROUGH = 85, 60  # of the copies of images and of differences, out of 100
MOST = 32  # times that a difference is amplified
CLIPPED = 10  # per cent of an image's differing values


def pixels(file: Path) -> np.ndarray:
    """An image's values, float32 (H, W, 3) in 0 .. 255."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), np.float32)


def is_small(file: Path) -> bool:
    """Whether an image is small enough to be shown pixel by pixel."""
    with Image.open(file) as image:
        return max(image.size) <= SMALL


def picture(file: Path) -> str:
    """An image as a data URI."""
    if is_small(file):
        return _data_uri(file.read_bytes(), "png")
    with Image.open(file) as image:
        return _encoded(image.convert("RGB"), QUALITY)


def amplification(differences: Iterable[np.ndarray]) -> int:
    """The largest power of two, at most `MOST`, that clips less than `CLIPPED` says in half of the images or more.

    Args:
        differences: of two images each, in 0 .. 255.
    """
    peaks = [np.percentile(np.abs(values[values != 0]), 100 - CLIPPED) for values in differences if values.any()]
    return 2 ** int(math.log2(min(max(255 / np.median(peaks or 255), 1), MOST)))


def difference(file: Path, other: Path, factor: int) -> str:
    """How far two images are apart, pixel by pixel: the absolute difference times a factor, as a data URI."""
    values = np.minimum(np.abs(pixels(file) - pixels(other)) * factor, 255).astype(np.uint8)
    return _encoded(Image.fromarray(values), ROUGH)


def _encoded(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    if max(image.size) <= SMALL:
        image.save(buffer, "PNG", optimize=True)
        return _data_uri(buffer.getvalue(), "png")
    image.save(buffer, "WEBP", quality=quality)
    return _data_uri(buffer.getvalue(), "webp")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()
