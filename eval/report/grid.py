"""The report's side-by-side grid: the same class and seed in every arm."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.report.frontier import shown_arms
from eval.report.pictures import amplification, difference, is_small, picture, pixels
from eval.report.words import BASELINE, compared_arms

if TYPE_CHECKING:
    from eval.report.run import Run

EXAMINED = 1000  # images compared pixel by pixel; more would make a large run's page slow to write
SHOWN = 6  # images in each half of the grid
SHOWN_ARMS = 6  # beside the baseline


def _manifest(folder: Path) -> dict[int, dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as lines:
        return {int(row["index"]): row for row in csv.DictReader(lines)}


def _same_tokens(row: dict[str, str]) -> bool:
    return row.get("tokens_equal_baseline", "").strip().lower() in ("1", "true")


def differences(run: Run, arms: list[str], manifests: dict[str, dict]) -> dict[int, dict[str, float]]:
    """Mean absolute difference to the baseline's image, in per cent of the range of values.

    Returns:
        {index: {arm: difference}} of the first images whose class and seed are the same in all arms.
    """
    found = {}
    for index, row in manifests[BASELINE].items():
        rows = [manifests[arm].get(index) for arm in arms]
        if any(other is None or (other["label"], other["seed"]) != (row["label"], row["seed"]) for other in rows):
            continue
        theirs, mine = dict(zip(arms, rows, strict=True)), None
        found[index] = {}
        for arm, other in theirs.items():
            if _same_tokens(other):
                found[index][arm] = 0.0
                continue
            mine = pixels(run.out / BASELINE / row["file"]) if mine is None else mine
            found[index][arm] = float(np.abs(pixels(run.out / arm / other["file"]) - mine).mean() / 2.55)
        if len(found) == EXAMINED:
            break
    return found


def choose(found: dict[int, dict[str, float]], labels: dict[int, str]) -> tuple[list[int], list[int]]:
    """The images that differ most, and typical ones: nearest to the median difference, of as many classes as possible.

    Args:
        found: difference by arm, by image.
        labels: class, by image.

    Returns:
        Indices of the most different (none if all are equal), and of the typical ones.
    """
    mean = {index: float(np.mean(list(by_arm.values()))) for index, by_arm in found.items()}
    most = [index for index in sorted(mean, key=lambda index: -mean[index])[:SHOWN] if mean[index] > 0]
    median = float(np.median(list(mean.values())))
    rest = sorted((index for index in mean if index not in most), key=lambda index: (abs(mean[index] - median), index))
    first_of_class = {labels[index]: index for index in reversed(rest)}.values()
    by_class = sorted(rest, key=lambda index: index not in set(first_of_class))
    return most, by_class[:SHOWN]


def grid_context(run: Run) -> dict | None:
    """Values of the grid's template; None without a baseline and an arm with its seeds."""
    compared = compared_arms(run.arms)
    if BASELINE not in run.arms or not compared:
        return None
    arms = shown_arms(run, compared, SHOWN_ARMS)
    manifests = {arm: _manifest(run.out / arm) for arm in (BASELINE, *arms)}
    found = differences(run, arms, manifests)
    if not found:
        return None
    base = manifests[BASELINE]
    most, typical = choose(found, {index: base[index]["label"] for index in found})
    pictures = {
        (arm, index): run.out / arm / manifests[arm][index]["file"]
        for index in (*most, *typical)
        for arm in (BASELINE, *arms)
    }
    factor = amplification(
        pixels(pictures[arm, i]) - pixels(pictures[BASELINE, i]) for i in (*most, *typical) for arm in arms
    )

    def case(index: int) -> dict:
        row = base[index]
        label = int(row["label"])
        title = run.class_names[label] if run.class_names else f"class {label}"
        mine = pictures[BASELINE, index]
        cells = [{"arm": BASELINE, "note": "reference", "source": picture(mine), "difference": None}]
        for arm in arms:
            file, differs = pictures[arm, index], f"differs {found[index][arm]:.1f}\u00a0%"
            note = "same tokens" if _same_tokens(manifests[arm][index]) else differs
            cells.append(
                {"arm": arm, "note": note, "source": picture(file), "difference": difference(file, mine, factor)}
            )
        return {"title": title, "seed": row["seed"], "index": index, "cells": cells}

    return {
        "halves": [
            {"title": title, "cases": [case(index) for index in indices]}
            for title, indices in (("The images that differ most", most), ("Typical images", typical))
            if indices
        ],
        "examined": len(found),
        "total": len(base),
        "factor": factor,
        "small": is_small(next(iter(pictures.values()))),
        "left_out": [arm for arm in compared if arm not in arms],
    }
