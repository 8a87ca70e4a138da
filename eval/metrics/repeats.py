"""Figures of equal parts of a run: how much they vary where nothing but the seeds differs."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

from eval.metrics import fidelity
from eval.metrics.features import Features

WHOLE = ("images", "inception_score_splits", "precision_recall_images")  # counts, the same in every part


def repeated_figures(
    ours: Features,
    others: dict[str, Features],
    repeats: int,
    network: dict[str, Any],
    metrics: Collection[str],
    known: Collection[str],
) -> dict[str, Any]:
    """Measures each part of an arm on its own, against the same part of the baseline and all of the reference.

    Images i·N/repeats to (i+1)·N/repeats - 1 are part i: their seeds are disjoint.

    Args:
        ours: features of all N images of an arm; N is a multiple of `repeats`.
        others: features of the `baseline` and the `reference`, where there are.
        repeats: number of parts.
        network: the feature extractor and its weights.
        metrics: as `eval.metrics.fidelity.measure`.
        known: warnings of the whole; one that differs from them in numbers alone is not said again.

    Returns:
        `repeats`: `count`, `images` (of a part) and, by figure, `mean`, `min` and `max`; `warnings` of the parts.
    """
    size = ours.images // repeats
    values: dict[str, list[float]] = {}
    warnings: dict[str, None] = {}
    for start in range(0, ours.images, size):
        parts = {
            name: other if name == "reference" else other.part(start, start + size) for name, other in others.items()
        }
        measured = fidelity.measure(ours.part(start, start + size), metrics=metrics, **parts, **network)
        new = [text for text in measured["warnings"] if _kind(text) not in map(_kind, known)]
        warnings |= dict.fromkeys(f"each of {repeats} repeats: {text}" for text in new)
        for name, value in measured.items():
            if isinstance(value, int | float) and name not in WHOLE and not name.endswith("_subset_size"):
                values.setdefault(name, []).append(value)
    spread = {name: {"mean": math.fsum(v) / len(v), "min": min(v), "max": max(v)} for name, v in values.items()}
    return {"repeats": {"count": repeats, "images": size, **spread}, "warnings": list(warnings)}


def _kind(warning: str) -> str:
    """A warning without its numbers."""
    return re.sub(r"\d[\d,]*", "", warning)
