"""Runs everything that is compared, in turns, and keeps the raw measurements."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import sdvar
from eval.estimates.memory import peak_bytes
from lightning_modules.arms.arm import Arm
from sdvar.decoding.timing import Clock, Stretch, now
from sdvar.decoding.warmup import learn_classes, warm_up
from sdvar.models.cost import shared_bytes, weight_bytes
from sdvar.models.protocol import NextScaleModel
from sdvar.models.running.cuda_graphs import no_captures
from sdvar.planning.inputs import labels_and_seeds, rotated
from sdvar.planning.tuning import tuned_key
from sdvar.system.log_lines import on_stderr

log = logging.getLogger("eval.benchmark")

KERNELS = ("sdvar.attention", "sdvar.graphs")  # loggers; to find out takes time, so not while a run is timed
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")  # how the names of these calls begin


@dataclass(frozen=True)
class Runner:
    """A named way of decoding a batch.

    Args:
        name: in the tables and in the JSON file.
        run: decodes a batch of labels and seeds, int64 (B,) each; with a strategy it takes a clock as well and returns
            statistics.
        weight_bytes: bytes of the models that it runs, with the copies that its runs have made.
        strategy: None for the original code.
        models: those of sdvar that it runs, each once.
        pair: the models of its strategy, if it has one.
        sampling: what its strategy decodes with.
        own: the draft and the sampling that it has in place of the others', in plain values.
        resolved: by the batch size what decodes where the strategy's gamma is "auto"; None where it is not.
    """

    name: str
    run: Callable[..., sdvar.DecodeStats | None]
    weight_bytes: Callable[[], int]
    strategy: sdvar.Strategy | None = None
    models: Collection[NextScaleModel] = ()
    pair: sdvar.ModelPair | None = None
    sampling: sdvar.Sampling = field(default_factory=sdvar.Sampling)
    own: Mapping[str, Any] = field(default_factory=dict)
    resolved: Callable[[int], sdvar.Strategy | None] = lambda batch: None


def strategy_runner(
    arm: Arm, strategy: sdvar.Strategy, pair: sdvar.ModelPair, sampling: sdvar.Sampling, images: bool
) -> Runner:
    """An arm as it is compared.

    Args:
        arm: with a draft of its own, if it has one, in the pair.
        strategy: what decodes.
        pair, sampling: what it decodes with; the arm may have its own sampling.
        images: whether the tokenizer's decoder runs.
    """
    models, sampling = set(strategy.models_of(pair)), arm.sampling or sampling
    own = {name: value for name, value in arm.config().items() if name in ("draft", "sampling")}

    def run(labels: Tensor, seeds: Tensor, clock: Clock | None = None) -> sdvar.DecodeStats:
        return sdvar.decode(pair, labels, seeds, strategy, sampling, images, clock).stats

    def weights() -> int:
        return sum(model.weight_bytes() for model in models) - shared_bytes(models) + weight_bytes(pair.tokenizer)

    def resolved(batch: int) -> sdvar.Strategy | None:
        return pair.tuned.get(tuned_key(strategy, pair, sampling, batch))  # decode keeps it there

    return Runner(arm.name, run, weights, strategy, models, pair, sampling, own, resolved)


@dataclass
class Measured:
    """Raw measurements of one runner at one batch size.

    Attributes:
        seconds: of the runs that are timed as a whole.
        clocked: of the runs with a clock inside: their whole time, their stretches and their statistics.
        peak_bytes: what a run takes beyond the weights, see `memory.peak_bytes`.
        launches: kernels and graphs launched in one run; None on the CPU.
        capture_seconds: of its warm-up, spent on capturing CUDA graphs.
    """

    seconds: list[float] = field(default_factory=list)
    clocked: list[tuple[float, list[Stretch], sdvar.DecodeStats]] = field(default_factory=list)
    peak_bytes: int | None = None
    launches: int | None = None
    capture_seconds: float = 0.0


def measure(
    runners: Sequence[Runner], batch: int, classes: int, device: torch.device, warmup: int, repeats: int
) -> dict[str, Measured]:
    """Measures all runners at one batch size; by name.

    They take turns, in an order that rotates, so that a machine that warms up or slows down affects them alike. Each
    turn is two runs of the same inputs: one timed as a whole, then one with a clock inside.

    Args:
        runners: what is compared.
        batch: images per run.
        classes: number of classes.
        device: where the models are.
        warmup, repeats: turns before counting, turns that count.
    """

    def inputs(number: int) -> tuple[Tensor, Tensor]:
        return labels_and_seeds(batch, number, classes, device)

    measured = {runner.name: Measured() for runner in runners}
    for runner in [*runners] * warmup:
        log.info("batch %d: warm-up of %s", batch, runner.name)
        captured = _capture_seconds(runner)
        with on_stderr(*KERNELS):
            warm_up(lambda number: runner.run(*inputs(number)), runner.models)  # noqa: B023
        measured[runner.name].capture_seconds += _capture_seconds(runner) - captured
    for repeat in range(repeats):
        of_turn = inputs(repeat)
        for runner in runners:
            learn_classes(of_turn[0], runner.models, runner.sampling)
        for runner in rotated(runners, repeat):
            seconds, _ = _timed(device, runner.run, *of_turn)
            measured[runner.name].seconds.append(seconds)
            log.info("batch %d: %d/%d %s %.3f s", batch, repeat + 1, repeats, runner.name, seconds)
        for runner in runners:
            if runner.strategy is not None:
                clock = Clock(device)
                whole, stats = _timed(device, runner.run, *of_turn, clock)
                measured[runner.name].clocked.append((whole, clock.stretches(), stats))
    for runner in runners:
        log.info("batch %d: memory of %s", batch, runner.name)
        for model in {model for other in runners for model in other.models}:
            model.release()
        measured[runner.name].peak_bytes = peak_bytes(device, lambda run=runner.run: run(*inputs(0)))
        if device.type == "cuda":
            measured[runner.name].launches = _launches(runner, inputs(0), device)
    return measured


def _capture_seconds(runner: Runner) -> float:
    return sum(model.capture_seconds for model in runner.models)


def _timed(device: torch.device, run: Callable, *arguments: object) -> tuple[float, sdvar.DecodeStats | None]:
    with no_captures():
        started = now(device)
        stats = run(*arguments)
        return now(device) - started, stats


def _launches(runner: Runner, inputs: tuple[Tensor, Tensor], device: torch.device) -> int:
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        runner.run(*inputs)
        torch.cuda.synchronize(device)
    return sum(event.name.startswith(LAUNCHES) for event in profiler.events())
