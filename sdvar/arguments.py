"""Checks of arguments: TypeError or ValueError with the argument's name, what is allowed and what was given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


def check_int(name: str, value: object, least: int, note: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int >= {least}{note}, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected an int >= {least}{note}, got {value}")


def check_number(name: str, value: object, allowed: Callable[[float], bool], words: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected {words}, got {value!r}")
    if not allowed(value):
        raise ValueError(f"{name}: expected {words}, got {value}")


def check_share(name: str, value: object) -> None:
    check_number(name, value, lambda x: 0 <= x <= 1, "a number from 0 to 1")


def check_non_negative(name: str, value: object) -> None:
    check_number(name, value, lambda x: 0 <= x < math.inf, "a number >= 0")
