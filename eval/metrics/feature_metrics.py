"""Runs the metrics that need features: on a whole set of images, and on equal parts of it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from eval.metrics.features.extraction import Features, extract
from eval.metrics.features.networks import weights_digest
from eval.metrics.metric import REFERENCE, Metric
from eval.metrics.registry import metrics_that_need
from lightning_modules.run.names import BASELINE

ImageSet = Path | str | Dataset | Features


def measure_images(
    images: ImageSet,
    *,
    baseline: ImageSet | None = None,
    reference: ImageSet | None = None,
    feature_extractor: str,
    feature_extractor_weights: Path | str | None = None,
    metrics: Collection[str] = ("is", "fid"),
) -> dict[str, Any]:
    """Measures a set of images.

    Args:
        images: the generated images, or their features.
        baseline: the baseline's images, or their features from `extract` (so that they are extracted only once).
        reference: real images or statistics, or their features.
        feature_extractor: see `eval.metrics.features.extraction.extract`.
        feature_extractor_weights: the network's weights, see there.
        metrics: names in `eval.metrics.registry`; those that need no features are skipped.

    Returns:
        `images` (count), `feature_extractor`, `feature_extractor_sha256` (of its weights), `warnings` and the columns
        of the metrics, as far as they can be computed.

    Raises:
        ValueError: an argument or a set of images is invalid, or features come from another network.
    """
    digest = weights_digest(feature_extractor, feature_extractor_weights)
    network = {"feature_extractor": feature_extractor, "feature_extractor_weights": feature_extractor_weights}
    sets = {"images": images, BASELINE: baseline, REFERENCE: reference}
    for name, given in sets.items():
        if isinstance(given, Features):
            _check_network(name, given, feature_extractor, digest)
    features = {
        name: given if isinstance(given, Features) else extract(given, **network)
        for name, given in sets.items()
        if given is not None
    }
    ours = features.pop("images")
    if ours.images is None:
        raise ValueError("images: got statistics only; allowed: a set of images")
    measured: dict[str, Any] = {
        "images": ours.images,
        "feature_extractor": feature_extractor,
        "feature_extractor_sha256": digest,
        "warnings": [],
    }
    for metric in metrics_that_need("features", metrics):
        values, warnings = metric.compute(ours, features)
        measured |= values
        measured["warnings"] += warnings
    return measured


def _check_network(name: str, given: Features, feature_extractor: str, digest: str) -> None:
    """Refuses features of another network: distances between them mean nothing."""
    if (given.feature_extractor, given.weights_sha256) != (feature_extractor, digest):
        raise ValueError(
            f"{name}: expected features by {feature_extractor} ({digest[:12]}…), got features by "
            f"{given.feature_extractor} (SHA-256 {given.weights_sha256[:12]}…), which do not compare; extract both "
            "with one network"
        )


def measure_parts(
    ours: Features,
    others: Mapping[str, Features],
    repeats: int,
    network: Mapping[str, Any],
    metrics: Collection[str],
    known: Collection[str],
) -> dict[str, Any]:
    """Measures equal parts of an arm: how much the metrics vary where nothing but the seeds differs.

    Part i has the images i·N/repeats to (i+1)·N/repeats - 1, with seeds of its own. It is compared with the same part
    of the baseline and all of the reference.

    Args:
        ours: features of all N images of an arm; N is a multiple of `repeats`.
        others: features of the `baseline` and the `reference`, as far as there are.
        repeats: number of parts.
        network: the feature extractor and its weights.
        metrics: as for `measure_images`.
        known: warnings of the whole; one that differs from them in numbers alone is not repeated.

    Returns:
        `repeats`: `count`, `images` (of a part) and, by column, `mean`, `min` and `max`; `warnings` of the parts.
    """
    size = ours.images // repeats
    values: list[dict[str, Any]] = []
    warnings: dict[str, None] = {}
    known = {_without_numbers(text) for text in known}
    for start in range(0, ours.images, size):
        parts = {
            name: other if name == REFERENCE else other.part(start, start + size) for name, other in others.items()
        }
        measured = measure_images(ours.part(start, start + size), metrics=metrics, **parts, **network)
        new = [text for text in measured["warnings"] if _without_numbers(text) not in known]
        warnings |= dict.fromkeys(f"each of {repeats} repeats: {text}" for text in new)
        values.append(measured)
    spread = spread_of(values, *metrics_that_need("features", metrics))
    return {"repeats": {"count": repeats, "images": size, **spread}, "warnings": list(warnings)}


def spread_of(parts: Sequence[Mapping[str, Any]], *metrics: Metric) -> dict[str, dict[str, float]]:
    """Mean, minimum and maximum of the values that some parts of an arm have, by column."""
    spread = {}
    for column in (column for metric in metrics for column in metric.columns):
        found = [part[column.key] for part in parts if part.get(column.key) is not None]
        if found and column.type == "number" and not column.dimensions:  # an integer is a count, the same in every part
            spread[column.key] = {"mean": math.fsum(found) / len(found), "min": min(found), "max": max(found)}
    return spread


def _without_numbers(warning: str) -> str:
    return re.sub(r"\d[\d,]*", "", warning)
