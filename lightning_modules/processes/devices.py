"""Which devices a run uses: so many processes, or GPUs by number."""

from __future__ import annotations

import re

MOST = 128
EXPECTED = f"expected an int from 1 to {MOST}, auto, or numbers of GPUs such as 0,1"


def read_devices(given: int | str | list[int], accelerator: str) -> int | list[int]:
    """Processes on a node, each with its device, as Lightning takes them.

    Args:
        given: their number; the numbers of GPUs, "0,1" or a list; or "auto": every GPU, a single process without any.
        accelerator: as `--accelerator` has it.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    if given == "auto":
        return max(1, 0 if accelerator == "cpu" else _gpus())
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= MOST:
        return given
    numbers = _numbers(given)
    if numbers is None:
        raise ValueError(f"devices: {EXPECTED}, got {_shown(given)}")
    if accelerator == "cpu" or not (found := _gpus()):
        raise ValueError(f"devices: {_shown(given)} are numbers of GPUs; on a CPU give the number of processes")
    if max(numbers) >= found:
        raise ValueError(f"devices: expected numbers of GPUs from 0 to {found - 1}, got {_shown(given)}")
    return numbers


def count(devices: int | list[int]) -> int:
    """How many processes that is on a node."""
    return devices if isinstance(devices, int) else len(devices)


def accelerator_of(accelerator: str, devices: int | list[int]) -> str:
    """The accelerator by name, cuda or cpu.

    Args:
        accelerator: auto, cpu, cuda or gpu.
        devices: of this node.

    Raises:
        ValueError: there are fewer GPUs than are asked for.
    """
    found = _gpus()
    name = accelerator.replace("gpu", "cuda").replace("auto", "cuda" if found else "cpu")
    if name == "cuda" and found < count(devices):
        raise ValueError(f"devices: {count(devices)} GPUs asked for, {found} found; --accelerator cpu needs none")
    return name


def _numbers(given: object) -> list[int] | None:
    """Different numbers of GPUs, or None for something else. A comma at the end makes one number a list: ``0,``."""
    if isinstance(given, str) and re.fullmatch(r"\s*\d{1,3}\s*,(\s*\d{1,3}\s*(,|$))*\s*", given):
        given = [int(part) for part in given.split(",") if part.strip()]
    if not isinstance(given, list) or not given or len(given) > MOST or len(set(given)) < len(given):
        return None
    return given if all(type(number) is int and number >= 0 for number in given) else None


def _gpus() -> int:
    import torch  # takes seconds, and most runs give a number

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _shown(given: object) -> str:
    return str(given) if isinstance(given, int | list) else repr(given)
