"""From raw numbers to the figures of the JSON file and the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch

import sdvar
from eval.benchmarking.measuring import Measured
from eval.benchmarking.roofline import Ceilings, Cost, VARSize, floor_seconds, pass_cost, tokenizer_cost, total
from eval.benchmarking.runners import Runner
from eval.benchmarking.simulated import is_simulated
from sdvar.decoding.timing import PARTS, Pass, Stretch, seconds_per_scale


class Floors:
    """The least time of what a pair's decodes consist of, on a machine.

    Args:
        pair: the models.
        ceilings: of the machine.
    """

    def __init__(self, pair: sdvar.ModelPair, ceilings: Ceilings) -> None:
        self.pyramid, self.ceilings, self.tokenizer = pair.pyramid, ceilings, pair.tokenizer
        self.models = {name: getattr(pair, name) for name in ("draft", "target")}
        self.sizes = {name: VARSize.of(model) for name, model in self.models.items()}
        self._of_tokenizer: dict[int, tuple[Cost, float]] = {}  # by batch; walking the decoder takes a while

    def of_pass(self, work: Pass) -> tuple[Cost, float]:
        """Cost of a pass and its least time in seconds."""
        cost = pass_cost(self.sizes[work.model], self.pyramid, work)
        return cost, floor_seconds(cost, self.ceilings, self.models[work.model].blocks[0].attn.mat_qkv.weight.dtype)

    def of_tokenizer(self, batch: int) -> tuple[Cost, float]:
        """The same of decoding a batch of f-hats into images."""
        if batch not in self._of_tokenizer:
            cost = tokenizer_cost(self.tokenizer, batch)
            self._of_tokenizer[batch] = cost, floor_seconds(cost, self.ceilings, decoder_dtype(self.tokenizer))
        return self._of_tokenizer[batch]

    def figures(self, stretches: Sequence[Stretch], batch: int, images: bool) -> dict[str, Any]:
        """The sums over one decode: seconds, also by part, bytes and operations."""
        costs: list[Cost] = []
        seconds: dict[str, float] = defaultdict(float)
        works = [(stretch.part, self.of_pass(stretch.work)) for stretch in stretches if stretch.work is not None]
        if images:
            works.append(("tokenizer", self.of_tokenizer(batch)))
        for part, (cost, least) in works:
            costs.append(cost)
            seconds[part] += least
        return {"seconds": sum(seconds.values()), "parts_seconds": dict(seconds), **total(costs)._asdict()}


def decoder_dtype(tokenizer: sdvar.VQVAE) -> torch.dtype:
    """The number format of the tokenizer's decoder."""
    return tokenizer.decoder.conv_out.weight.dtype


def runner_figures(
    runner: Runner, measured: Measured, baseline: Measured, batch: int, floors: Floors, images: bool
) -> dict[str, Any]:
    """All figures of one runner at one batch size, in plain values.

    Args:
        measured, baseline: raw numbers of the runner and of our own baseline.
        floors: for the floors.
        images: whether the tokenizer's decoder ran.
    """
    median = float(np.median(measured.seconds))
    faster = float(np.median(baseline.seconds)) / median
    speed = {"simulated": True, "simulated_speed_relative_to_baseline": faster} if is_simulated(runner.strategy) else {
        "speed_relative_to_baseline": faster
    }  # fmt: skip
    figures: dict[str, Any] = {
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
        **speed,
        "memory_bytes": _memory(runner, measured),
    }
    if measured.launches is not None:
        figures["kernel_launches_per_image"] = measured.launches / batch
        figures["graph_capture_seconds"] = measured.capture_seconds
    if not measured.clocked:
        return figures
    sums = [floors.figures(stretches, batch, images) for _, stretches in measured.clocked]
    floor = {key: _mean(each[key] for each in sums) for key in sums[0]}
    return figures | {
        "target_calls_mean": fmean(measured.target_calls),
        "draft_calls_mean": fmean(measured.draft_calls),
        **_times(measured, floors.pyramid),
        "floor": floor | {"latency_over_floor": median / floor["seconds"]},
        "passes_of_the_first_run": [
            {**stretch.work._asdict(), "seconds": stretch.seconds, **_floor_of(stretch.work, floors)}
            for stretch in measured.clocked[0][1]
            if stretch.work is not None
        ],
    }


def _memory(runner: Runner, measured: Measured) -> dict[str, int] | None:
    if measured.peak_bytes is None:
        return None
    weights = runner.weight_bytes()
    return {"weights": weights, "beyond_weights": measured.peak_bytes, "peak": weights + measured.peak_bytes}


def _times(measured: Measured, pyramid: sdvar.ScalePyramid) -> dict[str, Any]:
    """Means over the clocked runs, in seconds.

    `parts_seconds`: of each part, of what is in none of them, and of all. `scales_seconds`: in models and sampling at
    each scale. `conditioning_seconds`: of the models' conditioning, which is of no scale.
    """
    runs = [seconds_per_scale(stretches, pyramid.tokens) for _, stretches in measured.clocked]
    mean = {part: [fmean(values) for values in zip(*(run[part] for run in runs))] for part in PARTS}
    parts = {part: sum(seconds) for part, seconds in mean.items()}
    whole = fmean(seconds for seconds, _ in measured.clocked)
    return {
        "parts_seconds": {**parts, "rest": whole - sum(parts.values()), "whole": whole},
        "scales_seconds": [sum(seconds) for seconds in zip(*mean.values())][:-1],
        "conditioning_seconds": mean["draft"][-1] + mean["target"][-1],
    }


def _floor_of(work: Pass, floors: Floors) -> dict[str, float]:
    cost, seconds = floors.of_pass(work)
    return {"floor_seconds": seconds, **cost._asdict()}


def _mean(values: Any) -> Any:
    """Mean of numbers, or of dicts of numbers key by key."""
    values = list(values)
    if not isinstance(values[0], dict):
        return fmean(values)
    keys = dict.fromkeys(key for value in values for key in value)
    return {key: fmean(value.get(key, 0.0) for value in values) for key in keys}
