"""A run's figures from what it wrote: decode statistics, agreement, speed."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict
from typing import Any

import torch

import sdvar
from eval.metrics.scales import scale_figures
from lightning_modules.arm import BASELINE, Arm
from lightning_modules.decode_statistics import PER_IMAGE, PER_SCALE, DecodeStatistics
from lightning_modules.run.folder import RunFolder

FEW_BATCHES = 5  # a median of fewer says little on a machine that does other work too
JUDGED = ("32-true", "64-true")  # precisions in which a difference above sdvar.NEAR_TIE is an error


def arm_figures(folder: RunFolder, arm: Arm, length: int | None, batch_size: int, precision: str) -> dict[str, Any]:
    """Figures of one arm from its manifest and its batches.

    Args:
        folder: of a finished run.
        arm: one of its arms.
        length: tokens of an image, L; None if the run does not tell.
        batch_size: images decoded together.
        precision: of the models; a near-tie is one of float32 or float64.
    """
    rows, batches = folder.manifest(arm.name).read(), folder.batches(arm.name).read()
    decode = DecodeStatistics(len(batches[0][PER_SCALE[0]].split()))
    decode.update(
        {name: torch.tensor([int(row[name]) for row in rows]) for name in PER_IMAGE},
        {name: sum(torch.tensor([int(x) for x in row[name].split()]) for row in batches) for name in PER_SCALE},
    )
    median = statistics.median(float(row["seconds"]) for row in batches)
    figures = {
        "strategy": str(arm.strategy),
        **({"draft": arm.draft} if arm.draft else {}),
        **({"sampling": asdict(arm.sampling)} if arm.sampling else {}),
        "lossless": arm.lossless,
        "exact": arm.exact,
        "images": len(rows),
        **{name: _plain(value) for name, value in decode.compute().items()},
        "seconds_per_batch_median": median,
        "images_per_second": batch_size / median,  # of one process: how many there were may change within a run
        **scale_figures(rows, batches),
        "warnings": [],
    }
    relative = _relative_speeds(folder, batches)
    if relative:
        figures["speed_relative_to_baseline"] = statistics.median(relative)
    if len(relative or batches) < FEW_BATCHES:
        figures["warnings"].append(f"speed: too few batches to quote it ({len(relative or batches)})")
    if not compared(rows):
        return figures
    figures |= _agreement(rows, length)
    if arm.exact and arm.name != BASELINE and precision not in JUDGED:
        figures["warnings"].append(f"{precision}: rounding alone turns picks; judge losslessness in 32-true or 64-true")
    elif arm.exact and "score_gap" in rows[0]:  # tables of earlier versions lack it
        figures |= _near_ties(rows)
        beyond = figures["images_differing_from_baseline"] - figures["near_tie_images"]
        if beyond:
            figures["warnings"].append(
                f"{beyond} images differ from the baseline by more than a near-tie (largest score gap "
                f"{figures['largest_first_difference_gap']:.1e}): the arm is not exact here"
            )
    return figures


def compared(rows: list[dict[str, str]]) -> bool:
    """Whether an arm's manifest compares its images with the baseline's: not those of other seeds."""
    return bool(rows[0].get("tokens_equal_baseline"))


def _relative_speeds(folder: RunFolder, batches: list[dict[str, str]]) -> list[float]:
    """The baseline's seconds over an arm's, of each batch that both decoded in turn; empty without a baseline.

    Args:
        folder: of a finished run.
        batches: rows of the arm.
    """
    if any(row.get("baseline_seconds") for row in batches):
        baseline = {row["batch"]: row["baseline_seconds"] for row in batches if row["baseline_seconds"]}
    else:  # tables of earlier versions lack it, and all arms were decoded in turn
        baseline = {row["batch"]: row["seconds"] for row in folder.batches(BASELINE).read()}
    pairs = [(float(baseline[row["batch"]]), float(row["seconds"])) for row in batches if row["batch"] in baseline]
    return [of_baseline / ours for of_baseline, ours in pairs]


def _agreement(rows: list[dict[str, str]], length: int | None) -> dict[str, Any]:
    differing = {"images_differing_from_baseline": sum(row["tokens_equal_baseline"] != "1" for row in rows)}
    if length is None or not rows[0].get("agreeing_tokens"):  # tables of earlier versions lack it
        return differing
    agreeing = sum(int(row["agreeing_tokens"]) for row in rows)
    return {"token_agreement_with_baseline": agreeing / (len(rows) * length), **differing}


def _near_ties(rows: list[dict[str, str]]) -> dict[str, Any]:
    gaps = [float(row["score_gap"]) for row in rows if row["score_gap"]]
    return {
        "near_tie_images": sum(gap < sdvar.NEAR_TIE for gap in gaps),
        "largest_first_difference_gap": max(gaps, default=None),
    }


def _plain(value: torch.Tensor) -> float | list[float | None]:
    numbers = [None if math.isnan(x) else x for x in value.flatten().tolist()]
    return numbers if value.ndim else numbers[0]
