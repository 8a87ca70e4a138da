"""A run's figures from what it wrote: decode statistics, agreement, speed."""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch

import sdvar
from lightning_modules.metrics import PER_IMAGE, PER_SCALE, DecodeStatistics
from lightning_modules.predictor import BASELINE, Arm
from lightning_modules.run_folder import RunFolder

FEW_BATCHES = 5  # a median of fewer says little on a machine that does other work too
JUDGED = ("32-true", "64-true")  # precisions in which a difference above sdvar.NEAR_TIE is an error


def arm_figures(
    folder: RunFolder, arm: Arm, pyramid: sdvar.ScalePyramid, batch_size: int, precision: str
) -> dict[str, Any]:
    """Figures of one arm from its manifest and its batches.

    Args:
        folder: of a finished run.
        arm: one of its arms.
        pyramid: of its models.
        batch_size: images decoded together.
        precision: of the models; a near-tie is one of float32 or float64.
    """
    rows, batches = folder.manifest(arm.name).read(), folder.batches(arm.name).read()
    decode = DecodeStatistics(len(pyramid))
    decode.update(
        {name: torch.tensor([int(row[name]) for row in rows]) for name in PER_IMAGE},
        {name: sum(torch.tensor([int(x) for x in row[name].split()]) for row in batches) for name in PER_SCALE},
    )
    median = statistics.median(float(row["seconds"]) for row in batches)
    figures = {
        "strategy": str(arm.strategy),
        "lossless": arm.strategy.lossless,
        "exact": arm.strategy.exact,
        "images": len(rows),
        **{name: _plain(value) for name, value in decode.compute().items()},
        "seconds_per_batch_median": median,
        "images_per_second": batch_size / median,  # of one process: how many there were may change within a run
        "speed_relative_to_baseline": _relative_speed(folder, arm),
        "warnings": [],
    }
    if len(batches) < FEW_BATCHES:
        figures["warnings"].append(f"speed: too few batches to quote it ({len(batches)})")
    if not arm.reseed:
        figures |= _agreement(rows, pyramid.length)
    if arm.strategy.exact and not arm.reseed and arm.name != BASELINE and precision not in JUDGED:
        figures["warnings"].append(f"{precision}: rounding alone turns picks; judge losslessness in 32-true or 64-true")
    elif arm.strategy.exact and not arm.reseed:
        figures |= _near_ties(rows)
        beyond = figures["images_differing_from_baseline"] - figures["near_tie_images"]
        if beyond:
            figures["warnings"].append(
                f"{beyond} images differ from the baseline by more than a near-tie (largest score gap "
                f"{figures['largest_first_difference_gap']:.1e}): the arm is not exact here"
            )
    return figures


def _relative_speed(folder: RunFolder, arm: Arm) -> float:
    """Median over batches of the baseline's seconds over the arm's."""
    baseline = {row["batch"]: float(row["seconds"]) for row in folder.batches(BASELINE).read()}
    return statistics.median(baseline[row["batch"]] / float(row["seconds"]) for row in folder.batches(arm.name).read())


def _agreement(rows: list[dict[str, str]], length: int) -> dict[str, Any]:
    return {
        "token_agreement_with_baseline": sum(int(row["agreeing_tokens"]) for row in rows) / (len(rows) * length),
        "images_differing_from_baseline": sum(row["tokens_equal_baseline"] != "1" for row in rows),
    }


def _near_ties(rows: list[dict[str, str]]) -> dict[str, Any]:
    gaps = [float(row["score_gap"]) for row in rows if row["score_gap"]]
    return {
        "near_tie_images": sum(gap < sdvar.NEAR_TIE for gap in gaps),
        "largest_first_difference_gap": max(gaps, default=None),
    }


def _plain(value: torch.Tensor) -> float | list[float | None]:
    numbers = [None if math.isnan(x) else x for x in value.flatten().tolist()]
    return numbers if value.ndim else numbers[0]
