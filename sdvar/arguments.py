"""Checks of arguments: TypeError or ValueError with the argument's name, what is allowed and what was given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch


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


def check_device(device: object) -> torch.device:
    """The device of that name, if this machine has it."""
    try:
        found = torch.device(device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError):
        raise ValueError(f"device: expected a device such as 'cpu' or 'cuda:0', got {device!r}") from None
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            raise ValueError(
                f"device: expected one of this machine, which has {count} CUDA devices; got {str(found)!r}"
            )
    elif found.type not in ("cpu", "meta"):
        try:
            torch.empty(0, device=found)
        except Exception:  # each backend has its own
            raise ValueError(f"device: expected one of this machine, such as 'cpu'; got {str(found)!r}") from None
    return found
