"""From raw measurements to the statistics in the JSON file and the tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from statistics import fmean
from typing import Any

import numpy as np

from eval.benchmarking.measuring import Measured, Runner
from eval.estimates.roofline import Roofline
from eval.estimates.simulated import Simulated
from lightning_modules.arms.strategies import as_config
from sdvar.decoding.timing import PARTS, seconds_per_scale


def summarise(
    runner: Runner, measured: Measured, baseline: Measured, batch: int, roofline: Roofline, images: bool
) -> dict[str, Any]:
    """All statistics of one runner at one batch size, in plain values.

    Args:
        measured, baseline: raw measurements of the runner and of our own baseline.
        batch: images per run.
        roofline: of the pair on this machine.
        images: whether the tokenizer's decoder ran.
    """
    p10, median, p90 = np.percentile(measured.seconds, (10, 50, 90)).tolist()
    simulated = isinstance(getattr(runner.strategy, "acceptance", None), Simulated)
    speed = float(np.median(baseline.seconds)) / median
    summary: dict[str, Any] = {
        "batch_size": batch,
        "name": runner.name,
        "strategy": as_config(runner.strategy),
        **runner.own,
        **({"resolved": as_config(resolved)} if (resolved := runner.resolved(batch)) else {}),
        "latency_seconds": {"median": median, "p10": p10, "p90": p90, "runs": measured.seconds},
        "images_per_second": batch / median,
        **({"simulated": True} if simulated else {}),
        f"{'simulated_' if simulated else ''}speed_relative_to_baseline": speed,
        "memory_bytes": _memory(runner, measured),
    }
    if measured.launches is not None:
        summary["kernel_launches_per_image"] = measured.launches / batch
        summary["graph_capture_seconds"] = measured.capture_seconds
    if not measured.clocked:
        return summary
    least = _mean([roofline.of_decode(stretches, batch, images) for _, stretches, _ in measured.clocked])
    return summary | {
        "target_calls_mean": fmean(stats.target_calls.double().mean().item() for *_, stats in measured.clocked),
        "draft_calls_mean": fmean(stats.draft_calls.double().mean().item() for *_, stats in measured.clocked),
        **_times(measured, roofline.pair.pyramid.tokens),
        "roofline": least | {"latency_over_roofline": median / least["seconds"]},
        "passes_of_the_first_run": [
            {**stretch.work._asdict(), "seconds": stretch.seconds, "roofline_seconds": seconds, **cost._asdict()}
            for stretch in measured.clocked[0][1]
            if stretch.work is not None
            for cost, seconds in [roofline.of_pass(stretch.work)]
        ],
    }


def _memory(runner: Runner, measured: Measured) -> dict[str, int] | None:
    if measured.peak_bytes is None:
        return None
    weights = runner.weight_bytes()
    return {"weights": weights, "beyond_weights": measured.peak_bytes, "peak": weights + measured.peak_bytes}


def _times(measured: Measured, tokens: Sequence[int]) -> dict[str, Any]:
    """Means over the clocked runs, in seconds.

    `parts_seconds`: of each part, of the rest, and of the whole. `scales_seconds`: models and sampling at each scale.
    `conditioning_seconds`: the models' conditioning, which belongs to no scale.
    """
    runs = [seconds_per_scale(stretches, tokens) for _, stretches, _ in measured.clocked]
    mean = {part: np.mean([run[part] for run in runs], axis=0) for part in PARTS}
    parts = {part: float(seconds.sum()) for part, seconds in mean.items()}
    whole = fmean(seconds for seconds, *_ in measured.clocked)
    return {
        "parts_seconds": {**parts, "rest": whole - sum(parts.values()), "whole": whole},
        "scales_seconds": sum(mean.values())[:-1].tolist(),
        "conditioning_seconds": float(mean["draft"][-1] + mean["target"][-1]),
    }


def _mean(values: Sequence[Any]) -> Any:
    """Mean of numbers, or of dicts of numbers key by key."""
    if not isinstance(values[0], dict):
        return fmean(values)
    return {key: _mean([value.get(key, 0.0) for value in values]) for key in dict.fromkeys(chain(*values))}
