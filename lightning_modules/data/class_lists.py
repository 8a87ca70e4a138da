"""Which classes, or which images exactly, a run makes: what a user writes, read and checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_modules.data.class_names import IMAGENET_CLASSES, imagenet_label, plain, short
from lightning_modules.data.label_files import Listed, read_file
from lightning_modules.data.label_ranges import IMAGES_LIMIT, RANGE, parse_ranges

SEED_LIMIT = 2**40  # the seeds of images lie below; arms with other seeds use those above

# longer ones are neither labels nor seeds, and Python refuses to read very long ones
_INT = re.compile(r"\s*(-?\d{1,18})(?:\.0*)?\s*")  # a gap in a column turns its other numbers to 3.0
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
        labels: a range ``"0-9"``, a list ``"1,5,7"``, names ``"golden retriever,volcano"``, WordNet ids
            ``"n02099601"``, these mixed, a sequence of them, or a file: a text file of such lines; a .json file with a
            list of them, or with what belongs to each label, as Keras has it; or a table (.csv, .parquet, .json,
            .jsonl) with the column ``label`` and, as far as wanted, ``seed`` and ``index``.

    Raises:
        ValueError: one line with what was received, where, and what is allowed.
    """
    if isinstance(labels, str):
        parts = labels.split(",")
        if not all(map(RANGE.fullmatch, parts)) and _is_file(labels):
            return _checked(read_file(Path(labels).expanduser()))
        return _from_parts(parts, labels)
    if not isinstance(labels, int | Sequence):
        raise ValueError(f"labels: expected ints >= 0, ranges, names or a file, got {short(labels)}")
    return _from_parts([labels] if isinstance(labels, int) else labels)


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long for a path, a NUL in it, or no such user's home
        return False


def _from_parts(parts: Sequence[int | str], text: str | None = None) -> ClassList:
    """Numbers, ranges and names; ``text`` is what they were cut from, for the error."""
    labels, named = [], False
    beside = {plain(part) for part in parts if isinstance(part, str)}
    for part in parts:
        if isinstance(part, str) and RANGE.fullmatch(part):
            labels += parse_ranges(part)
        elif isinstance(part, str) and part.strip() and not _DIGITS.fullmatch(part):
            try:
                labels.append(imagenet_label(part, beside))
            except ValueError as error:
                what = "is neither a range such as '0-9', nor a list such as '1,5,7', nor an existing file; as a name:"
                raise ValueError(f"labels: {f'{short(text)} {what} ' if text else ''}{error}") from None
            named = True
        elif isinstance(part, int) and not isinstance(part, bool) and part >= 0:
            labels.append(part)
        else:
            raise ValueError(f"labels: expected ints >= 0, ranges or names of ImageNet classes, got {short(part)}")
    if not labels:
        raise ValueError("labels: expected one or more, got none")
    return ClassList(labels, named=named)


def _checked(listed: Listed) -> ClassList:
    """The class list of a file."""
    where, numbers, columns = listed.where, listed.numbers, listed.columns
    labels, names = [], {}
    beside = {plain(value) for value in columns["label"] if isinstance(value, str)}
    for number, value in zip(numbers, columns["label"]):
        label = _as_int(value)
        if label is None and isinstance(value, str) and re.search(r"[^\W\d]", value):
            if value not in names:
                try:
                    names[value] = imagenet_label(value, beside)
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
    first_of: dict[int, int | str] = {}
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
    if isinstance(value, str) and (found := _INT.fullmatch(value)):
        return int(found[1])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _shown(value: object) -> str:
    return "none" if value is None or value == "" else short(value)
