"""Labels written as ranges, and how many of them a run takes."""

from __future__ import annotations

import re
from collections.abc import Iterable

IMAGES_LIMIT = 1_000_000  # images of a run, and so the seeds that it keeps for itself
RANGE = re.compile(r"\s*\d{1,18}(\s*-\s*\d{1,18})?\s*")


def parse_ranges(text: str) -> list[int]:
    """The numbers of a text such as ``"0-3,7"``; ValueError if a range runs backwards."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        if not span:
            raise ValueError(f"labels: the range {part.strip()!r} runs backwards; write the smaller label first")
        check_count(len(numbers) + len(span), text)
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


def check_count(count: int, what: str) -> None:
    """Raises ValueError if ``what`` gives more labels than a run takes."""
    if count > IMAGES_LIMIT:
        raise ValueError(f"labels: {what} gives {count:,} labels; expected at most {IMAGES_LIMIT:,}")
