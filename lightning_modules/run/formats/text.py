"""Text of a run's files, as editors and copies leave it."""

from __future__ import annotations

import codecs
from pathlib import Path

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(file: Path, whole: bool = True) -> str:
    """The text of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Args:
        file: to read.
        whole: refuse other bytes; else they come as the replacement character.

    Raises:
        ValueError: it is something else; names the line.
    """
    data = file.read_bytes()
    encoding = "utf-16" if data.startswith(UTF_16) else "utf-8-sig"
    try:
        return data.decode(encoding, errors="strict" if whole else "replace")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{file}, line {line}: expected text in UTF-8 ({error.reason})") from None
