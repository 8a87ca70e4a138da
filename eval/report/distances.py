"""The report's second table: how near each arm is to the baseline and to the reference, in every measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.report.words import DASH, distance, metric_names, noise_floor, number, share

if TYPE_CHECKING:
    from eval.report.run import Run

KERNEL = "kernel_inception_distance_to"
SHOWN = (f"{KERNEL}_baseline_mean", f"{KERNEL}_reference_mean", "precision", "psnr_mean", "repeats")
REPEATED = {  # titles of the figures that repeats are shown of
    "frechet_distance_to_baseline": "distance to the baseline",
    "frechet_distance_to_reference": "distance to the reference",
    "inception_score_mean": "score",
}


def kernel_name(label: str) -> str:
    """Name of the kernel distance beside that of the Fréchet distance: plain KID only where that is plain FID."""
    return "KID" if label == "FID" else label.replace("Fréchet", "Kernel")


def _kernel(arm: dict, other: str) -> str:
    """A kernel distance and its spread, times 1,000."""
    mean, std = arm.get(f"{KERNEL}_{other}_mean"), arm.get(f"{KERNEL}_{other}_std")
    return DASH if mean is None else f"{1000 * mean:.3f} ± {1000 * std:.3f}".replace("-0.000", "0.000")


def _identical(arm: dict) -> str:
    count = arm.get("identical_images")
    return DASH if count is None else f"{count:,} of {arm['images']:,}"


def _repeats(run: Run) -> list[dict]:
    """Mean and range of the repeats' figures, an entry a line."""
    lines = []
    for name, arm in run.arms.items():
        for key, title in REPEATED.items():
            spread = (arm.get("repeats") or {}).get(key)
            if spread:
                values = {what: distance(spread[what]) for what in ("mean", "min", "max")}
                lines.append({"arm": name, "title": title, **values})
    return lines


def distances_context(run: Run) -> dict | None:
    """Values of the table's template; None where the run measured nothing beyond the first table."""
    arms = run.arms
    if not any(arm.get(key) is not None for arm in arms.values() for key in SHOWN):
        return None
    label, floor = metric_names(arms)[0], noise_floor(arms)
    rows = []
    for name, arm in arms.items():
        difference = arm.get("mean_absolute_difference")
        cells = (
            distance(arm.get("frechet_distance_to_baseline")),
            _kernel(arm, "baseline"),
            _kernel(arm, "reference"),
            share(arm.get("precision")),
            share(arm.get("recall")),
            _identical(arm),
            number(arm.get("psnr_mean"), 2),
            number(arm.get("ssim_mean"), 4),
            DASH if difference is None else f"{100 * difference:.2f} %",
        )
        rows.append({"name": name, "cells": cells})
    first = next(iter(arms.values()))
    against = next(
        (arm["precision_recall_against"] for arm in arms.values() if "precision_recall_against" in arm), None
    )
    repeats = (first.get("repeats") or {}) if _repeats(run) else {}
    return {
        "rows": rows,
        "distance_name": label,
        "kernel_name": kernel_name(label),
        "extractor": first.get("feature_extractor"),
        "against": against,
        "floor": distance(floor) if floor is not None else None,
        "repeats": _repeats(run),
        "repeat_count": repeats.get("count"),
        "repeat_images": repeats.get("images"),
    }
