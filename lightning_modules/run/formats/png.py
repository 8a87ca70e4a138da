"""The image files of a run: written whole or not at all, recognised by their digest."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image
from torch import Tensor

from sdvar.system.atomic import write_atomically

WHOLE, MISSING, DAMAGED, REPLACED = "whole", "missing", "damaged", "replaced"


def write_png(path: Path, image: Tensor) -> str:
    """Writes a uint8 (H, W, 3) image.

    Returns:
        SHA-256 of the file, 64 hexadecimal digits.
    """
    data = png_bytes(image)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, data, sync=False)  # a power cut may leave it empty; a continued run notices by the digest
    return digest(data)


def png_bytes(image: Tensor) -> bytes:
    """The file of a uint8 (H, W, 3) image."""
    buffer = io.BytesIO()
    # Pillow's own compression: level 1 takes half the time and 10 % more room, and the time is off the critical path.
    Image.fromarray(image.numpy()).save(buffer, format="PNG")
    return buffer.getvalue()


def digest(data: bytes) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits, as sha256sum prints it."""
    return hashlib.sha256(data).hexdigest()


def condition(path: Path, recorded: str) -> str:
    """The state of an image file.

    Args:
        path: of the file.
        recorded: its digest when it was written.

    Returns:
        WHOLE; MISSING; DAMAGED, if it cannot be decoded; REPLACED, if it is a different image from the one written.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return MISSING
    if digest(data) == recorded:
        return WHOLE
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return REPLACED
    except (OSError, SyntaxError, ValueError):  # what Pillow raises for damaged files
        return DAMAGED
