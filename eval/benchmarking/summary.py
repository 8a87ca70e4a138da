"""From raw measurements to the statistics in the JSON file and the tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from eval.benchmarking.measuring import Measured, Runner
from eval.benchmarking.roofline import Roofline
from sdvar.decoding.timing import PARTS, Pass, seconds_per_scale


def summarise(
    runner: Runner, measured: Measured, baseline: Measured, batch: int, roofline: Roofline, tokens: Sequence[int],
    images: bool,
) -> dict[str, Any]:  # fmt: skip
    """All statistics of one runner at one batch size, in plain values.

    Args:
        measured, baseline: raw measurements of the runner and of our own baseline.
        batch: images per run.
        roofline: of the pair on this machine.
        tokens: n_k of all scales.
        images: whether the tokenizer's decoder ran.
    """
    median = float(np.median(measured.seconds))
    speed = "simulated_speed_relative_to_baseline" if runner.simulated else "speed_relative_to_baseline"
    summary: dict[str, Any] = {
        "batch_size": batch,
        "name": runner.name,
        "strategy": None if runner.strategy is None else repr(runner.strategy),
        "latency_seconds": {
            "median": median,
            "p10": float(np.percentile(measured.seconds, 10)),
            "p90": float(np.percentile(measured.seconds, 90)),
            "runs": measured.seconds,
        },
        "images_per_second": batch / median,
        **({"simulated": True} if runner.simulated else {}),
        speed: float(np.median(baseline.seconds)) / median,
        "memory_bytes": _memory(runner, measured),
    }
    if measured.launches is not None:
        summary["kernel_launches_per_image"] = measured.launches / batch
        summary["graph_capture_seconds"] = measured.capture_seconds
    if not measured.clocked:
        return summary
    sums = [roofline.of_decode(stretches, batch, images) for _, stretches in measured.clocked]
    least = {key: _mean([each[key] for each in sums]) for key in sums[0]}
    return summary | {
        "target_calls_mean": fmean(measured.target_calls),
        "draft_calls_mean": fmean(measured.draft_calls),
        **_times(measured, tokens),
        "roofline": least | {"latency_over_roofline": median / least["seconds"]},
        "passes_of_the_first_run": [
            {**stretch.work._asdict(), "seconds": stretch.seconds, **_of_pass(roofline, stretch.work)}
            for stretch in measured.clocked[0][1]
            if stretch.work is not None
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
    runs = [seconds_per_scale(stretches, tokens) for _, stretches in measured.clocked]
    mean = {part: [fmean(values) for values in zip(*(run[part] for run in runs))] for part in PARTS}
    parts = {part: sum(seconds) for part, seconds in mean.items()}
    whole = fmean(seconds for seconds, _ in measured.clocked)
    return {
        "parts_seconds": {**parts, "rest": whole - sum(parts.values()), "whole": whole},
        "scales_seconds": [sum(seconds) for seconds in zip(*mean.values())][:-1],
        "conditioning_seconds": mean["draft"][-1] + mean["target"][-1],
    }


def _of_pass(roofline: Roofline, work: Pass) -> dict[str, float]:
    cost, seconds = roofline.of_pass(work)
    return {"roofline_seconds": seconds, **cost._asdict()}


def _mean(values: Sequence[Any]) -> Any:
    """Mean of numbers, or of dicts of numbers key by key."""
    if not isinstance(values[0], dict):
        return fmean(values)
    keys = dict.fromkeys(key for value in values for key in value)
    return {key: fmean(value.get(key, 0.0) for value in values) for key in keys}
