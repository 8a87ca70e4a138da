"""The one reader of a run's tables: every value is checked against its column before anything is computed from it."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lightning_modules.columns import PART_SECONDS, PER_IMAGE, PER_ROUND, PER_SCALE, ROW_DIGEST

IMAGES_PER_FOLDER = 1000
MOST_BYTES = 2_000_000_000  # of a table: a million images take a third of it
SHOWN = 60  # characters of an invalid value
_COUNT, _NUMBER = r"\d{1,19}", r"-?\d{1,15}(\.\d{1,15})?"
_COUNTS = rf"{_COUNT}( {_COUNT})*"
_PATTERNS = {  # of the values of each column
    **dict.fromkeys(("index", "label", "batch", *PER_IMAGE), _COUNT),
    "seed": rf"-?{_COUNT}",
    "tokens_equal_baseline": "[01]?",
    "agreeing_tokens": rf"({_COUNT})?",
    "score_gap": rf"({_NUMBER}e[+-]\d\d|inf)?",
    **dict.fromkeys(("sha256", "tokens_sha256"), "([0-9a-f]{64})?"),
    "seconds": _NUMBER,
    "baseline_seconds": rf"({_NUMBER})?",
    **dict.fromkeys(PER_SCALE, _COUNTS),
    **dict.fromkeys(PER_ROUND, rf"{_COUNTS}(;{_COUNTS})*"),
    **dict.fromkeys(PART_SECONDS, rf"{_NUMBER}( {_NUMBER})*"),
}
_CHECKS = {name: re.compile(pattern, re.ASCII) for name, pattern in _PATTERNS.items()}
_AT_MOST = {"agreed_tokens": "drafted_tokens", "accepted_scales": "drafted_scales"}


def image_file(index: int) -> str:
    """Path of an image relative to its arm's folder, e.g. ``002/002417.png``."""
    return f"{index // IMAGES_PER_FOLDER:03d}/{index:06d}.png"


def row_digest(owner: str, values: Iterable[object]) -> str:
    """SHA-256 of a row, by which an edit is noticed.

    It is kept in the row: a run killed at any moment has no row without its digest, and no digest without its row.

    Args:
        owner: whose row it is; of another arm, or in another table, it is not valid.
        values: of its columns, in order.
    """
    return hashlib.sha256("\n".join([owner, *map(str, values)]).encode()).hexdigest()


def read_rows(file: Path, columns: Sequence[str], owner: str | None = None) -> list[dict[str, str]]:
    """The rows of a table that may come from anybody.

    Args:
        file: of the table.
        columns: that it must have; the first is the key of its rows.
        owner: as the digests of its rows were made with, to check them too; the rows come without them.

    Raises:
        ValueError: a column or a value is missing or invalid, a key is there twice, or a row points at another image
            than its own or is not as it was written; names the file and the line.
    """
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file}: expected at most {MOST_BYTES:,} bytes, got {file.stat().st_size:,}")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: expected text in UTF-8 ({error.reason} at byte {error.start})") from None
    if "\0" in text:
        raise ValueError(f"{file}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: a NUL byte")
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="beyond", restval=None)
    rows: dict[str, dict[str, str]] = {}
    try:
        expected = columns if owner is None else [*columns, ROW_DIGEST]
        missing = [name for name in expected if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{file}, line 1: the columns {', '.join(missing)} are missing")
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            for problem in problems(row):
                raise ValueError(f"{where}: {problem}")
            key = row[columns[0]]
            if rows.setdefault(key, row) is not row:
                raise ValueError(f"{where}: {columns[0]} {key} is there twice")
            if owner is not None and row.pop(ROW_DIGEST) != row_digest(owner, row.values()):
                raise ValueError(
                    f"{where}: the row is not as the run wrote it (its {ROW_DIGEST} differs); remove the line, and the "
                    "command that began the run makes it again, or start afresh with --overwrite"
                )
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}") from None
    return list(rows.values())


def problems(row: Mapping[str, str | None]) -> Iterator[str]:
    """What is wrong with a row, in words."""
    if "beyond" in row or None in row.values():
        yield "expected a value for each column"
        return
    for name, value in row.items():
        if name in _CHECKS and not _CHECKS[name].fullmatch(value):
            yield f"{name} has the invalid value {value[:SHOWN]!r}"
            return
    if "file" in row and "index" in row and row["file"] != image_file(int(row["index"])):
        expected = image_file(int(row["index"]))
        yield f"file is {row['file'][:SHOWN]!r}, but image {row['index']} is {expected}"
    for part, whole in _AT_MOST.items():
        if part in row and whole in row:
            parts, wholes = (list(map(int, row[name].split())) for name in (part, whole))
            if len(parts) != len(wholes) or any(a > b for a, b in zip(parts, wholes)):
                yield f"{part} {row[part][:SHOWN]} is more than {whole} {row[whole][:SHOWN]}"
