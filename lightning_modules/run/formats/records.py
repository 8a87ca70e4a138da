"""Reads what a run's YAML and JSON files record. They may come from anybody: plain values alone, each of its type."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lightning_modules.options import plain_yaml
from lightning_modules.run.formats.text import read_text

MOST_BYTES = 100_000_000  # of a file
MOST_VALUES = 2_000_000  # in a file; aliases of YAML can stand for more than any memory holds
LARGEST = 2**64  # of a number
REPAIR = "give the command that began the run again: it makes anew what is damaged"
SHOWN = 60  # characters of an invalid value
NAMES = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "an int", float: "a number"}
NAMES |= {type(None): "nothing"}


def read_record(file: Path) -> dict[str, Any]:
    """The mapping in a .yaml or .json file; empty if there is no such file.

    Raises:
        ValueError: the file is damaged, or holds something else than a mapping of plain values.
    """
    content = parse(file) if file.is_file() else None
    if content is not None and not isinstance(content, dict):
        raise ValueError(f"{file}: expected a mapping, got {NAMES.get(type(content), type(content).__name__)}")
    check_plain(file, content)
    return content or {}


class _Loader(plain_yaml.Loader):
    """Without merge keys (``<<``), which a small file can nest until they fill the memory."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == plain_yaml.MERGE for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "could not determine a constructor for <<")


def parse(file: Path) -> Any:
    """What a .yaml or .json file holds, unchecked; ValueError if it is damaged or too large."""
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file}: expected at most {MOST_BYTES:,} bytes, got {file.stat().st_size:,}")
    try:
        text = read_text(file)
        return json.loads(text) if file.suffix == ".json" else yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from None


def check_plain(file: Path, content: object) -> None:
    """Raises ValueError if there is another value than text, a bool, a finite number of 64 bits, or nothing."""
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif not isinstance(value, str | bool | None) and not (
            isinstance(value, int | float) and math.isfinite(value) and abs(value) < LARGEST
        ):
            raise ValueError(f"{file}: expected text, numbers of 64 bits, lists and mappings, got {_short(value)}")
        if count + len(waiting) > MOST_VALUES:
            raise ValueError(f"{file}: expected at most {MOST_VALUES:,} values, got more")


def check_recordable(record: Mapping[str, Any]) -> None:
    """Raises ValueError for a number too large for any record, named by its keys; better now than when it is read."""
    waiting: list[tuple[str, Any]] = [("", record)]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(f"{where}.{key}" if where else str(key), inner) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(where, inner) for inner in value]
        elif isinstance(value, int | float) and math.isfinite(value) and abs(value) >= LARGEST:
            raise ValueError(f"{where}: expected a number of 64 bits, got {_short(value)}")


def expect(where: object, record: Mapping[str, Any], **types: type | tuple[type, ...]) -> None:
    """Checks values of a mapping.

    Args:
        where: what an error begins with, such as the file.
        record: the mapping.
        types: by name; a name that is absent has the value None.

    Raises:
        ValueError: a value has another type.
    """
    for name, allowed in types.items():
        value, kinds = record.get(name), allowed if isinstance(allowed, tuple) else (allowed,)
        if type(value) not in kinds:
            expected = " or ".join(NAMES[kind] for kind in kinds)
            raise ValueError(f"{where}: {name}: expected {expected}, got {_short(value)}")


def _short(value: object) -> str:
    kind = NAMES.get(type(value), type(value).__name__)
    try:
        return repr(value)[:SHOWN] if not isinstance(value, dict | list | None) else kind
    except ValueError:  # Python prints no int of more than 4,300 digits
        return kind
