"""Tokens in a file: two bytes each, compressed by zlib.

``np.frombuffer(zlib.decompress(data), "<u2").reshape(-1, L)`` reads one. Tokens from 65,536 on make it "<u4".
"""

from __future__ import annotations

import hashlib
import zlib

import numpy as np

LEVEL = 6


def pack(tokens: np.ndarray) -> tuple[bytes, str]:
    """What the file of tokens (B, L) contains, and their SHA-256: of the bytes before they are compressed."""
    plain = tokens.astype("<u2" if tokens.max() < 1 << 16 else "<u4").tobytes()
    return zlib.compress(plain, LEVEL), hashlib.sha256(plain).hexdigest()


def unpack(packed: bytes, shape: tuple[int, int], recorded: str) -> np.ndarray | None:
    """Tokens int64 (B, L) from a file that may come from anybody; None if they are not those that were recorded.

    No more is decompressed than tokens of that shape take.

    Args:
        packed: content of the file.
        shape: (B, L).
        recorded: the digest of the tokens.
    """
    count = shape[0] * shape[1]
    try:
        plain = zlib.decompressobj().decompress(packed, 4 * count + 1)
    except zlib.error:
        return None
    if hashlib.sha256(plain).hexdigest() != recorded or len(plain) not in (2 * count, 4 * count):
        return None
    return np.frombuffer(plain, "<u2" if len(plain) == 2 * count else "<u4").reshape(shape).astype(np.int64)


def most_bytes(shape: tuple[int, int]) -> int:
    """Of a file of tokens (B, L); random ones do not get smaller by compression."""
    return 4 * shape[0] * shape[1] + (1 << 16)
