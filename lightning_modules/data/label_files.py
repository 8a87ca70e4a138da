"""Files of labels as people have them: lines of text, JSON lists, Keras' index of classes, tables."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from lightning_modules.columns import MANIFEST_COLUMNS, ROW_DIGEST
from lightning_modules.data.class_names import SHARED, WNID, imagenet_label, imagenet_wnids, plain, short
from lightning_modules.data.label_ranges import RANGE, check_count, parse_ranges
from sdvar.system.command_line import did_you_mean

TABLES = (".csv", ".tsv", ".parquet", ".json", ".jsonl")  # other files are text
COLUMNS = ("label", "seed", "index")
NUMBER = re.compile(r"\s*\d{1,6}\s*")
NUMBERED = re.compile(r"\{?\s*(\d{1,6})[\s,:]+(.*[^\W\d].*)")  # 207 golden retriever, or a line of a Python dict
COMMENT = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True)
class Listed:
    """What a file lists, unchecked but for its form.

    Attributes:
        where: the file and what its parts are, such as "labels.csv, row".
        numbers: of these parts, or their keys; one per label.
        columns: label and, where they are there, seed and index. A label may be a name or a WordNet id.
    """

    where: str
    numbers: Sequence[int | str]
    columns: dict[str, list]


def read_file(path: Path) -> Listed:
    """The labels of a file.

    Raises:
        ValueError: one line that says what is wrong, and where.
    """
    kind = path.suffix.lower()
    if kind not in TABLES:
        return _from_text(path)
    if kind == ".json":
        content = _read(path, _json_content)
        if isinstance(content, dict):
            return _from_mapping(path, content)
        if content == []:
            raise ValueError(f"labels: {path}: expected one or more labels, got none")
        if isinstance(content, list) and not any(isinstance(row, dict) for row in content):
            check_count(len(content), str(path))
            return Listed(f"{path}, entry", range(1, len(content) + 1), {"label": content})
    return _from_table(path)


def _from_text(path: Path) -> Listed:
    """A label, a name or a WordNet id per line, or several with commas between; a line that begins with # is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(
            f"labels: {path} is no text in UTF-8; save it as such. Tables end in {', '.join(TABLES)}"
        ) from None
    numbers: list[int] = []
    labels: list[object] = []
    for number, line in enumerate(lines, start=1):
        line = COMMENT.sub("", line).strip()
        if line:
            found = _of_line(line, f"{path}, line {number}")
            check_count(len(labels) + len(found), str(path))
            numbers += [number] * len(found)
            labels += found
    if not labels:
        raise ValueError(f"labels: {path}: expected one label per line, got none")
    return Listed(f"{path}, line", numbers, {"label": labels})


def _of_line(line: str, place: str) -> list[object]:
    """The labels of a line of a text file; names are not looked up yet."""
    if WNID.fullmatch(line):
        return [line]
    if numbered := NUMBERED.fullmatch(line):
        return [_numbered(numbered[1], numbered[2].strip(" ,{}'\""), place)]
    parts = [part.strip().strip("\"'") for part in line.rstrip().removesuffix(",").split(",")]
    if all(map(RANGE.fullmatch, parts)):
        return [number for part in parts for number in _ranges_of(part, place)]
    return list(parts)


def _ranges_of(part: str, place: str) -> list[int]:
    try:
        return parse_ranges(part)
    except ValueError as error:
        raise ValueError(f"labels: {place}: {str(error).removeprefix('labels: ')}") from None


def _numbered(number: str, name: str, place: str) -> str:
    """The WordNet id of ``207: golden retriever``, if the name or the WordNet id after the number is that class's."""
    label, wnids = int(number), list(imagenet_wnids())
    if label < len(wnids) and any(_is_of(label, one) for one in (name, *name.split(","))):
        return wnids[label]
    raise ValueError(
        f"labels: {place}: expected after {short(label)} the name or the WordNet id of that class, or the number "
        f"alone; got {short(name.strip())}"
    )


def _is_of(label: int, name: str) -> bool:
    """Whether an ImageNet class has that name, alone or shared, or that WordNet id."""
    try:
        return label in SHARED.get(plain(name), ()) or imagenet_label(name) == label
    except ValueError:
        return False


def _from_mapping(path: Path, content: dict) -> Listed:
    """What belongs to each label, such as Keras' ``{"0": ["n01440764", "tench"], …}``."""
    if not content:
        raise ValueError(f"labels: {path}: expected one or more labels, got none")
    keys = list(map(short, content))
    labels = [_of_entry(key, value, f"{path}, entry {short(key)}") for key, value in content.items()]
    return Listed(f"{path}, entry", keys, {"label": labels})


def _of_entry(key: str, value: object, place: str) -> str:
    if WNID.fullmatch(key):
        return key
    names = value if isinstance(value, list) else [value]
    if not NUMBER.fullmatch(key) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f'labels: {place}: expected a class by its number or WordNet id, such as "0": ["n01440764", "tench"]; got '
            f"{short(value)}"
        )
    return [_numbered(key, name, place) for name in names][0]


def _from_table(path: Path) -> Listed:
    columns = _columns(path)
    if "label" not in columns:
        raise ValueError(f"labels: {path}: expected a column 'label', got {_listed(columns)}")
    unknown = [name for name in columns if name not in (*COLUMNS, *MANIFEST_COLUMNS, ROW_DIGEST)]
    if unknown:
        near = did_you_mean(unknown[0], COLUMNS)
        raise ValueError(f"labels: {path}: expected the columns {', '.join(COLUMNS)}, got {short(unknown[0])}{near}")
    if not columns["label"]:
        raise ValueError(f"labels: {path}: expected one or more rows, got none")
    check_count(len(columns["label"]), str(path))
    return Listed(f"{path}, row", range(1, len(columns["label"]) + 1), columns)


def _listed(names: Iterable[str]) -> str:
    first = [short(name) for name in itertools.islice(names, 7)]
    return ", ".join([*first[:6], "…"] if len(first) > 6 else first) or "none"


def _columns(path: Path) -> dict[str, list]:
    """The columns of a table by name; values of a CSV file are text."""
    readers = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    names, rows = _read(path, readers.get(path.suffix.lower(), _json))
    names = [name.strip().lower() for name in names]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise ValueError(f"labels: {path}: expected each column once, got {short(doubled[0])} twice")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """What a reader finds in a file; ValueError if it cannot be read."""
    try:
        return reader(path)
    except UnicodeDecodeError:
        raise ValueError(f"labels: {path} is no text in UTF-8; save it as such") from None
    except (OSError, ValueError, RecursionError, csv.Error, pyarrow.ArrowException) as error:
        raise ValueError(
            f"labels: {path} cannot be read as a table with rows: {' '.join(str(error).split())}"
        ) from None


def _csv(path: Path) -> tuple[list[str], list[Sequence]]:
    """A spreadsheet separates columns by commas, semicolons or tabs, as the language of its user has it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        separator = next((mark for mark in ",;\t" if mark in first), ",")
        rows = [row for row in csv.reader(file, strict=True, delimiter=separator) if row]
    names = rows.pop(0) if rows else []
    for number, row in enumerate(rows, start=1):
        if len(row) > len(names):
            raise ValueError(f"row {number} has {len(row)} values for {len(names)} columns")
    return names, [row + [""] * (len(names) - len(row)) for row in rows]


def _parquet(path: Path) -> tuple[list[str], list[Sequence]]:
    with pyarrow.parquet.ParquetFile(path) as file:
        check_count(file.metadata.num_rows, str(path))
        names = file.schema_arrow.names
        wanted = file.read(columns=[name for name in names if name.strip().lower() in COLUMNS])
        columns = {name: wanted[name].to_pylist() for name in wanted.column_names}
        empty = [None] * file.metadata.num_rows
    return names, list(zip(*(columns.get(name, empty) for name in names)))


def _json_content(path: Path) -> Any:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return json.loads(text, object_pairs_hook=_with_different_keys)


def _with_different_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON, whose last value for a key would otherwise count in silence."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"expected each key once, got {short(next(key for key in keys if keys.count(key) > 1))} twice")
    return content


def _json(path: Path) -> tuple[list[str], list[Sequence]]:
    rows = _json_content(path)
    if not isinstance(rows, list):
        raise ValueError(f"expected a list of rows, got {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f'row {number}: expected a mapping such as {{"label": 1}}, got {short(row)}')
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[row.get(name) for name in names] for row in rows]
