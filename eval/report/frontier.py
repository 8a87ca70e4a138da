"""Which arms are worth a look: those that no other arm beats in both speed and distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from eval.report.words import BASELINE, is_reseeded_baseline, is_simulated, sameness

if TYPE_CHECKING:
    from eval.report.run import Run


def points(arms: dict[str, dict]) -> dict[str, tuple[float, float]]:
    """Speed (baseline 1) and distance to the baseline of the arms that have both; the baseline's own first.

    Left out are the baseline with other seeds, arms that broke a promise, and simulated ones, whose images mean
    nothing.
    """
    found = {BASELINE: (1.0, 0.0)} if BASELINE in arms else {}
    for name, arm in arms.items():
        speed, far = arm.get("speed_relative_to_baseline"), arm.get("frechet_distance_to_baseline")
        if name == BASELINE or is_reseeded_baseline(arms, name) or is_simulated(arm) or speed is None or far is None:
            continue
        if sameness(arm)["kind"] != "fault":
            found[name] = (speed, max(far, 0.0))
    return found


def frontier(of: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names that no other beats: none is as fast and nearer, or as near and faster. The slowest first.

    Args:
        of: speed and distance by name.
    """
    best, nearest = [], float("inf")
    for name in sorted(of, key=lambda name: (-of[name][0], of[name][1])):
        if of[name][1] < nearest:
            best.append(name)
            nearest = of[name][1]
    return best[::-1]


def shown_arms(run: Run, names: list[str], most: int) -> list[str]:
    """At most so many of some arms, in their order: those on the frontier before the others."""
    first = frontier(points(run.arms))
    chosen = sorted(names, key=lambda name: name not in first)[:most]
    return [name for name in names if name in chosen]
