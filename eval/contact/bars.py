"""The times that are asked for, as ratios to what was measured beside them."""

from __future__ import annotations

from typing import Any, NamedTuple

FASTER_ALONE = 6.0  # than the original, at batch 1
OVER_ROOFLINE = 1.7  # at most, at batch 1
SHARE_OF_ROOFLINE = 0.55  # of its images per second, at batch 64
TAILS = {"tail_6": 3.2, "tail_8": 2.0}  # faster than the baseline, at batch 64
LARGE = 64


class Bar(NamedTuple):
    """A ratio, the bar that it is to reach, and whether it does."""

    name: str
    wanted: str
    measured: str
    met: bool


def bars(reports: list[dict[str, Any]]) -> list[Bar]:
    """Those of the bars whose rows were measured.

    Args:
        reports: of the step `table`: a group's name and the content of the benchmark's JSON file.
    """
    found = []
    for entry in reports:
        rows = {row["name"]: row for row in entry["report"]["results"]}
        baseline, batch, group = rows["baseline"], entry["batch_size"], entry["group"]
        over = baseline["roofline"]["latency_over_roofline"]
        if batch == 1:
            found.append(_at_most(f"{group}, batch 1: time over the roofline", OVER_ROOFLINE, over))
            theirs = [row for name, row in rows.items() if name.startswith("original")]
            for row in theirs:
                faster = 1 / row["speed_relative_to_baseline"]
                found.append(_at_least(f"{group}, batch 1: faster than {row['name']}", FASTER_ALONE, faster))
        if batch == LARGE:
            name = f"{group}, batch {LARGE}: share of the roofline's images per second"
            found.append(_at_least(name, SHARE_OF_ROOFLINE, 1 / over))
            for tail in TAILS.keys() & rows.keys():
                speed = rows[tail]["speed_relative_to_baseline"]
                found.append(_at_least(f"{group}, batch {LARGE}: speed of {tail}", TAILS[tail], speed))
    return found


def _at_least(name: str, wanted: float, measured: float) -> Bar:
    return Bar(name, f"≥ {wanted:g}", f"{measured:.2f}", measured >= wanted)


def _at_most(name: str, wanted: float, measured: float) -> Bar:
    return Bar(name, f"≤ {wanted:g}", f"{measured:.2f}", measured <= wanted)
