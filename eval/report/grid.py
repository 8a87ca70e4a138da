"""The section of images side by side: the same class and seed in every arm."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from eval.report.run import Run
from eval.report.tradeoff import shown_arms
from eval.report.words import compared_arms
from lightning_modules.run.formats.rows import read_rows
from lightning_modules.run.names import BASELINE

EXAMINED = 1000  # images compared pixel by pixel; more would make a large run's page slow to write
SHOWN = 6  # images in each half of the grid
SHOWN_ARMS = 6  # beside the baseline
SMALL = 64  # pixels per side; up to here the page holds the file itself, above a compressed copy
QUALITY, ROUGH = 85, 60  # of the copies of images and of differences, out of 100
LARGEST_FACTOR = 32  # by which a difference is amplified
CLIPPED = 10  # per cent of an image's differing values


def section(run: Run) -> dict | None:
    """Values of the section's template; None without a baseline and an arm with its seeds."""
    compared = compared_arms(run.arms)
    if BASELINE not in run.arms or not compared:
        return None
    arms = shown_arms(run, compared, SHOWN_ARMS)
    manifests = {arm: _manifest(run.out / arm) for arm in (BASELINE, *arms)}
    found = differences(run, arms, manifests)
    if not found:
        return None
    base, names = manifests[BASELINE], run.metrics.get("class_names")
    most, typical = choose(found, {index: base[index]["label"] for index in found})
    files = {
        (arm, index): run.out / arm / manifests[arm][index]["file"]
        for index in (*most, *typical)
        for arm in (BASELINE, *arms)
    }
    factor = amplification(pixels(file) - pixels(files[BASELINE, index]) for (_, index), file in files.items())

    def cell(arm: str, index: int) -> dict:
        file, mine = files[arm, index], files[BASELINE, index]
        if arm == BASELINE:
            own = {"note": "target model alone", "differs": False, "difference": None}
            return own | {"arm": arm, "source": picture(file)}
        same = _same_tokens(manifests[arm][index])
        note = "same tokens" if same else f"differs by {found[index][arm]:.1f}\u00a0%"
        shown = difference(file, mine, factor)
        return {"arm": arm, "note": note, "differs": not same, "source": picture(file), "difference": shown}

    def case(index: int) -> dict:
        label = int(base[index]["label"])
        return {
            "title": names[label] if names else f"class {label}",
            "seed": base[index]["seed"],
            "index": index,
            "cells": [cell(arm, index) for arm in (BASELINE, *arms)],
        }

    return {
        "halves": [
            {"title": title, "cases": [case(index) for index in indices]}
            for title, indices in (("Largest differences", most), ("Typical differences", typical))
            if indices
        ],
        "examined": len(found),
        "total": len(base),
        "factor": factor,
        "small": _is_small(next(iter(files.values()))),
        "left_out": [arm for arm in compared if arm not in arms],
    }


def _manifest(folder: Path) -> dict[int, dict[str, str]]:
    rows = read_rows(folder / "manifest.csv", ("index", "label", "seed", "file", "tokens_equal_baseline"))
    return {int(row["index"]): row for row in rows}


def _same_tokens(row: dict[str, str]) -> bool:
    return row["tokens_equal_baseline"] == "1"


def differences(run: Run, arms: list[str], manifests: dict[str, dict]) -> dict[int, dict[str, float]]:
    """Mean absolute difference to the baseline's image, in per cent of the range of values.

    Returns:
        {index: {arm: difference}} of the first images whose class and seed are the same in all arms.
    """
    found: dict[int, dict[str, float]] = {}
    for index, row in manifests[BASELINE].items():
        rows = {arm: manifests[arm].get(index, {}) for arm in arms}
        if any(other.get(key) != row[key] for other in rows.values() for key in ("label", "seed")):
            continue
        differing = [arm for arm, other in rows.items() if not _same_tokens(other)]
        mine = pixels(run.out / BASELINE / row["file"]) if differing else None
        found[index] = dict.fromkeys(arms, 0.0)
        for arm in differing:
            found[index][arm] = float(np.abs(pixels(run.out / arm / rows[arm]["file"]) - mine).mean() / 2.55)
        if len(found) == EXAMINED:
            break
    return found


def choose(found: dict[int, dict[str, float]], labels: dict[int, str]) -> tuple[list[int], list[int]]:
    """The images that differ most, and typical ones: closest to the median difference, of as many classes as possible.

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


def pixels(file: Path) -> np.ndarray:
    """An image's values, float32 (H, W, 3) in 0 .. 255."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), np.float32)


def picture(file: Path) -> str:
    """An image as a data URI."""
    if _is_small(file):
        return _data_uri(file.read_bytes(), "png")
    with Image.open(file) as image:
        return _encoded(image.convert("RGB"), QUALITY)


def amplification(differences: Iterable[np.ndarray]) -> int:
    """The power of two, at most `LARGEST_FACTOR`, that clips `CLIPPED` per cent or less in at least half of the images.

    Args:
        differences: of two images each, in 0 .. 255.
    """
    peaks = [np.percentile(np.abs(values[values != 0]), 100 - CLIPPED) for values in differences if values.any()]
    return 2 ** int(math.log2(min(max(255 / np.median(peaks or 255), 1), LARGEST_FACTOR)))


def difference(file: Path, other: Path, factor: int) -> str:
    """The absolute difference of two images, pixel by pixel, times a factor, as a data URI."""
    values = np.minimum(np.abs(pixels(file) - pixels(other)) * factor, 255).astype(np.uint8)
    return _encoded(Image.fromarray(values), ROUGH)


def _is_small(file: Path) -> bool:
    with Image.open(file) as image:
        return max(image.size) <= SMALL


def _encoded(image: Image.Image, quality: int) -> str:
    kind = "png" if max(image.size) <= SMALL else "webp"
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"optimize": True} if kind == "png" else {"quality": quality}))
    return _data_uri(buffer.getvalue(), kind)


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()
