"""Which classes, or which images exactly, a run makes: what a user writes, read and checked."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from lightning_modules.columns import MANIFEST_COLUMNS, ROW_DIGEST
from lightning_modules.data.class_names import IMAGENET_CLASSES, imagenet_label
from sdvar.command_line import did_you_mean

IMAGES_LIMIT = 1_000_000  # images of a run, and so the seeds that it keeps for itself
SEED_LIMIT = 2**40  # the seeds of images lie below; arms with other seeds use those above

TABLES = (".csv", ".parquet", ".json", ".jsonl")  # other files are text
COLUMNS = ("label", "seed", "index")

_RANGE = re.compile(r"\s*\d{1,18}(\s*-\s*\d{1,18})?\s*")
_INT = re.compile(
    r"\s*-?\d{1,18}\s*"
)  # longer ones are neither labels nor seeds, and Python refuses to read very long ones
_DIGITS = re.compile(r"[\s\d-]+")


@dataclass(frozen=True)
class ClassList:
    """Classes to make images of; with seeds or index, the very images.

    Attributes:
        labels: in the order given; one given twice occurs twice.
        seeds: of the images, one per label; None: the run gives them.
        index: numbers of the images, all different; None: 0, 1, 2, …
        named: whether a class was given by its ImageNet name.
        places: where each label was read, such as "labels.csv, row 3"; None if not from a file.
    """

    labels: list[int]
    seeds: list[int] | None = None
    index: list[int] | None = None
    named: bool = False
    places: list[str] | None = None

    @property
    def fixed(self) -> bool:
        """Whether the list gives images, not classes: exactly these are made."""
        return self.seeds is not None or self.index is not None

    def check_classes(self, num_classes: int) -> None:
        """Raises ValueError if a label or a name is not a class of a model with ``num_classes`` classes."""
        if self.named and num_classes != IMAGENET_CLASSES:
            raise ValueError(f"labels: names are those of ImageNet, this model has {num_classes} classes; give numbers")
        for position, label in enumerate(self.labels):
            if label >= num_classes:
                place = f"{self.places[position]}: " if self.places else ""
                raise ValueError(f"labels: {place}expected classes 0 to {num_classes - 1}, got {label}")


def read_class_list(labels: str | int | Sequence[int | str]) -> ClassList:
    """A class list from what a user writes.

    Args:
        labels: a range ``"0-9"``, a list ``"1,5,7"``, names ``"golden retriever,volcano"``, these mixed, a sequence of
            them, or a file: a text file with one label or name per line, or a table (.csv, .parquet, .json, .jsonl)
            with the column ``label`` and, as far as wanted, ``seed`` and ``index``.

    Raises:
        ValueError: one line with what was received, where, and what is allowed.
    """
    if isinstance(labels, str):
        parts = labels.split(",")
        if not all(map(_RANGE.fullmatch, parts)) and _is_file(labels):
            return _from_table(Path(labels)) if Path(labels).suffix.lower() in TABLES else _from_text(Path(labels))
        return _from_parts(parts, labels)
    return _from_parts([labels] if isinstance(labels, int) else labels)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL in it
        return False


def parse_ranges(text: str) -> list[int]:
    """The numbers of a text such as ``"0-3,7"``; ValueError if a range runs backwards."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        if not span:
            raise ValueError(f"labels: the range {part.strip()!r} runs backwards; write the smaller label first")
        _check_count(len(numbers) + len(span), text)
        numbers.extend(span)
    return numbers


def as_ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as the shortest text for `parse_ranges`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _from_parts(parts: Sequence[int | str], text: str | None = None) -> ClassList:
    """Numbers, ranges and names; ``text`` is what they were cut from, for the error."""
    labels, named = [], False
    for part in parts:
        if isinstance(part, str) and _RANGE.fullmatch(part):
            labels += parse_ranges(part)
        elif isinstance(part, str) and part.strip() and not _DIGITS.fullmatch(part):
            try:
                labels.append(imagenet_label(part))
            except ValueError as error:
                what = "is neither a range such as '0-9', nor a list such as '1,5,7', nor an existing file; as a name:"
                raise ValueError(f"labels: {f'{_short(text)} {what} ' if text else ''}{error}") from None
            named = True
        elif isinstance(part, int) and not isinstance(part, bool) and part >= 0:
            labels.append(part)
        else:
            raise ValueError(f"labels: expected ints >= 0, ranges or names of ImageNet classes, got {_short(part)}")
    if not labels:
        raise ValueError("labels: expected one or more, got none")
    return ClassList(labels, named=named)


def _from_text(path: Path) -> ClassList:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"labels: {path} is not a text file; tables end in {', '.join(TABLES)}") from None
    lines = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not lines:
        raise ValueError(f"labels: {path}: expected one label per line, got none")
    return _checked(f"{path}, line", [number for number, _ in lines], {"label": [line for _, line in lines]})


def _from_table(path: Path) -> ClassList:
    columns = _columns(path)
    if "label" not in columns:
        raise ValueError(f"labels: {path}: expected a column 'label', got {', '.join(map(repr, columns)) or 'none'}")
    unknown = [name for name in columns if name not in (*COLUMNS, *MANIFEST_COLUMNS, ROW_DIGEST)]
    if unknown:
        near = did_you_mean(unknown[0], COLUMNS)
        raise ValueError(f"labels: {path}: expected the columns {', '.join(COLUMNS)}, got {unknown[0]!r}{near}")
    if not columns["label"]:
        raise ValueError(f"labels: {path}: expected one or more rows, got none")
    _check_count(len(columns["label"]), str(path))
    return _checked(f"{path}, row", range(1, len(columns["label"]) + 1), columns)


def _columns(path: Path) -> dict[str, list]:
    """The columns of a table by name; values of a CSV file are text."""
    try:
        kind = path.suffix.lower()
        names, rows = _csv(path) if kind == ".csv" else _parquet(path) if kind == ".parquet" else _json(path, kind)
    except (OSError, ValueError, RecursionError, csv.Error, pyarrow.ArrowException) as error:
        raise ValueError(
            f"labels: {path} cannot be read as a table with rows: {' '.join(str(error).split())}"
        ) from None
    names = [name.strip() for name in names]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise ValueError(f"labels: {path}: expected each column once, got {doubled[0]!r} twice")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _csv(path: Path) -> tuple[list[str], list[Sequence]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file, strict=True) if row]
    names = rows.pop(0) if rows else []
    for number, row in enumerate(rows, start=1):
        if len(row) > len(names):
            raise ValueError(f"row {number} has {len(row)} values for {len(names)} columns")
    return names, [row + [""] * (len(names) - len(row)) for row in rows]


def _parquet(path: Path) -> tuple[list[str], list[Sequence]]:
    with pyarrow.parquet.ParquetFile(path) as file:
        _check_count(file.metadata.num_rows, str(path))
        names = file.schema_arrow.names
        wanted = file.read(columns=[name for name in names if name.strip() in COLUMNS])
        columns = {name: wanted[name].to_pylist() for name in wanted.column_names}
        empty = [None] * file.metadata.num_rows
    return names, list(zip(*(columns.get(name, empty) for name in names)))


def _json(path: Path, kind: str) -> tuple[list[str], list[Sequence]]:
    text = path.read_text(encoding="utf-8-sig")
    rows = [json.loads(line) for line in text.splitlines() if line.strip()] if kind == ".jsonl" else json.loads(text)
    if not isinstance(rows, list):
        raise ValueError(f"expected a list of rows, got {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f'row {number}: expected a mapping such as {{"label": 1}}, got {_short(row)}')
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[row.get(name) for name in names] for row in rows]


def _check_count(count: int, what: str) -> None:
    if count > IMAGES_LIMIT:
        raise ValueError(f"labels: {what} gives {count:,} labels; expected at most {IMAGES_LIMIT:,}")


def _checked(where: str, numbers: Sequence[int], columns: dict[str, list]) -> ClassList:
    """The class list of the columns of a file.

    Args:
        where: the file and what its parts are, such as "labels.csv, row".
        numbers: of these parts, one per label.
        columns: label and, where they are there, seed and index.
    """
    labels, names = [], {}
    for number, value in zip(numbers, columns["label"]):
        label = _as_int(value)
        if label is None and isinstance(value, str) and re.search(r"[^\W\d]", value):
            if value not in names:
                try:
                    names[value] = imagenet_label(value)
                except ValueError as error:
                    raise ValueError(f"labels: {where} {number}: expected a label (an int >= 0), {error}") from None
            label = names[value]
        if label is None or label < 0:
            raise ValueError(f"labels: {where} {number}: expected a label (an int >= 0), got {_shown(value)}")
        labels.append(label)
    limits = {"seed": SEED_LIMIT, "index": IMAGES_LIMIT}
    found: dict[str, list[int]] = {name: [] for name in limits if name in columns}
    for name, values in found.items():
        for number, value in zip(numbers, columns[name]):
            whole = _as_int(value)
            if whole is None or not 0 <= whole < limits[name]:
                raise ValueError(
                    f"labels: {where} {number}: expected as {name} an int from 0 to {limits[name] - 1}, got "
                    f"{_shown(value)}"
                )
            values.append(whole)
    first_of: dict[int, int] = {}
    for number, index in zip(numbers, found.get("index", ())):
        if index in first_of:
            raise ValueError(
                f"labels: {where} {number}: expected an index of its own, got {index} as in {first_of[index]}"
            )
        first_of[index] = number
    places = [f"{where} {number}" for number in numbers]
    return ClassList(labels, found.get("seed"), found.get("index"), bool(names), places)


def _as_int(value: object) -> int | None:
    """An int, also one written as text; None for anything else."""
    if isinstance(value, str) and _INT.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():  # one fraction or gap turns a column's other numbers to these
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _shown(value: object) -> str:
    return "none" if value is None or value == "" else _short(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
