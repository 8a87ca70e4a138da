"""The one reader of a run's tables: every value is checked against its column before anything is computed from it."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lightning_modules.columns import PART_SECONDS, PER_IMAGE, PER_ROUND, PER_SCALE, ROW_DIGEST
from lightning_modules.run.formats.text import read_text

IMAGES_PER_FOLDER = 1000
MOST_BYTES = 2_000_000_000  # of a table: a million images take a third of it
SHOWN = 60  # characters of an invalid value
NAMED = 3  # missing columns that an error names
NUL, UNEVEN = "a NUL byte", "expected a value for each column"
CHANGED = f"the row is not as the run wrote it (its {ROW_DIGEST} differs)"
_COUNT, _NUMBER = r"\d{1,19}", r"-?\d{1,15}(\.\d{1,15})?"
_POSITIVE = rf"(?!-|[0.]+$){_NUMBER}"  # what is divided by
_COUNTS = rf"{_COUNT}( {_COUNT})*"
_PATTERNS = {  # of the values of each column
    **dict.fromkeys(("index", "label", "batch"), _COUNT),
    **dict.fromkeys(PER_IMAGE, r"\d{1,9}"),
    **dict.fromkeys(("target_calls", "draft_calls"), r"\d{1,5}"),  # images are counted by their calls
    "seed": rf"-?{_COUNT}",
    "tokens_equal_baseline": "[01]?",
    "agreeing_tokens": rf"({_COUNT})?",
    "score_gap": rf"({_NUMBER}e[+-]\d\d|inf)?",
    **dict.fromkeys(("sha256", "tokens_sha256"), "([0-9a-f]{64})?"),
    "images": r"[1-9]\d{0,8}",
    "seconds": _POSITIVE,
    "baseline_seconds": rf"({_POSITIVE})?",
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


def read_rows(
    file: Path,
    columns: Sequence[str],
    owner: str | None = None,
    keys: Container[int] | None = None,
    damaged: list[str] | None = None,
) -> list[dict[str, str]]:
    """The rows of a table that may come from anybody.

    Columns may come in any order and beside others, as a spreadsheet leaves them.

    Args:
        file: of the table.
        columns: that it must have; the first is the key of its rows.
        owner: as the digests of its rows were made with, to check them too; the rows come with `columns` alone.
        keys: that a row may have; None for any.
        damaged: takes what is wrong with a line, in place of an error, and the line is left out; a table without its
            header is read too. For those who make the rows anew.

    Raises:
        ValueError: a column or a value is missing or invalid, a key is there with two rows, or a row points at another
            image than its own, belongs to another run or is not as it was written; names the file and the line.
    """
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file}: expected at most {MOST_BYTES:,} bytes, got {file.stat().st_size:,}")
    lines = re.split("\r\n|\r|\n", read_text(file, whole=damaged is None))
    expected = list(columns) if owner is None else [*columns, ROW_DIGEST]
    header = _values(lines[0])
    first, missing = 1, [name for name in expected if name not in header]
    if missing and damaged is None:
        nul = "\0" in lines[0]
        raise ValueError(f"{file}, line 1: {NUL if nul else f'missing columns: {_enumerated(missing)}'}")
    if missing:
        header, first = expected, 0
        if not any(lines):
            damaged.append("it is empty")
    rows: dict[int, dict[str, str]] = {}
    for number, line in enumerate(lines[first:], first + 1):
        if not line:
            continue
        row, problem = _row(line, header, columns, owner)
        key = int(row[columns[0]]) if problem is None or problem == CHANGED else -1
        if rows.get(key, row) != row:
            problem = f"{columns[0]} {key} is there twice"
        elif problem is None and keys is not None and key not in keys:
            problem = f"{columns[0]} {key} is none of the run's"
        if problem is None:
            rows[key] = row
        elif damaged is None:
            raise ValueError(f"{file}, line {number}: {problem}")
        else:
            damaged.append(f"line {number}: {problem}")
    return list(rows.values())


def _row(line: str, header: list[str], columns: Sequence[str], owner: str | None) -> tuple[dict[str, str], str | None]:
    """A line as a row, and what is wrong with it."""
    values = _values(line)
    if "\0" in line or len(values) != len(header):
        return {}, NUL if "\0" in line else UNEVEN
    row = dict(zip(header, values))
    problem = next(problems(row), None)
    if owner is None or problem:
        return row, problem
    recorded, row = row[ROW_DIGEST], {name: row[name] for name in columns}
    return row, None if recorded == row_digest(owner, row.values()) else CHANGED


def _values(line: str) -> list[str]:
    """The values of one line: a quotation mark that is never closed spoils no other."""
    try:
        return next(csv.reader([line.replace("\0", " ")]), [])
    except csv.Error:  # a value of more than 131,072 characters
        return []


def _enumerated(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f", … ({len(names)} in all)" if len(names) > NAMED else "")


def problems(row: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with a row, in words."""
    for name, value in row.items():
        if name in _CHECKS and not _CHECKS[name].fullmatch(value):
            yield f"{name} has the invalid value {value[:SHOWN]!r}"
            return
    if "file" in row and "index" in row and row["file"] != image_file(int(row["index"])):
        expected = image_file(int(row["index"]))
        yield f"file is {row['file'][:SHOWN]!r}, but image {row['index']} is {expected}"
    if ("agreeing_tokens" in row and "tokens_equal_baseline" in row) and (
        (row["agreeing_tokens"] == "") != (row["tokens_equal_baseline"] == "")
    ):
        yield "agreeing_tokens and tokens_equal_baseline: expected both or none"
    for part, whole in _AT_MOST.items():
        if part in row and whole in row:
            parts, wholes = (list(map(int, row[name].split())) for name in (part, whole))
            if len(parts) != len(wholes) or any(a > b for a, b in zip(parts, wholes)):
                yield f"{part} {row[part][:SHOWN]} is more than {whole} {row[whole][:SHOWN]}"
    scales = {len(row[name].split()) for name in PER_SCALE if name in row}
    scales |= {len(counts.split()) for name in PER_ROUND if name in row for counts in row[name].split(";")}
    scales |= {len(row[name].split()) - 1 for name in PART_SECONDS if name in row}
    if len(scales) > 1:
        yield f"expected counts and seconds of as many scales in all columns, got {', '.join(map(str, sorted(scales)))}"
