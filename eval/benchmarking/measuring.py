"""Runs everything that is compared, in turns, and keeps the raw numbers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from eval.benchmarking.ceilings import now
from eval.benchmarking.peak import peak_bytes
from eval.benchmarking.runners import Runner
from sdvar.decoding.timing import Clock, Stretch

log = logging.getLogger("eval.benchmark")

LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")  # the beginnings of the calls' names


@dataclass
class Measured:
    """Raw numbers of one runner at one batch size.

    Attributes:
        seconds: of the runs that are timed as a whole.
        clocked: of the runs with a clock inside, their whole time and their stretches.
        target_calls, draft_calls: passes an image took part in, mean over all images of those runs.
        peak_bytes: what a run takes beyond the weights, see `peak.peak_bytes`.
        launches: kernels and graphs launched in one run; None on the CPU.
        capture_seconds: of its warm-up that went into capturing CUDA graphs.
    """

    seconds: list[float] = field(default_factory=list)
    clocked: list[tuple[float, list[Stretch]]] = field(default_factory=list)
    target_calls: list[float] = field(default_factory=list)
    draft_calls: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    launches: int | None = None
    capture_seconds: float = 0.0


def labels_and_seeds(batch: int, repeat: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs of one run, the same for every runner: labels spread over the classes, seeds of its own."""
    image = torch.arange(repeat * batch, (repeat + 1) * batch)
    return (image * 97 % classes).to(device), image.to(device)


def measure(
    runners: Sequence[Runner], batch: int, classes: int, device: torch.device, warmup: int, repeats: int
) -> dict[str, Measured]:
    """Measures all runners at one batch size.

    They take turns, in an order that rotates from turn to turn, so that a machine that warms up or slows down treats
    them alike. Each turn is two runs of the same inputs: one timed as a whole, then one with a clock inside.

    Args:
        runners: what is compared; those with a strategy take a clock.
        batch: images of a run.
        classes: labels there are.
        device: where the models are.
        warmup, repeats: turns that are not counted, turns that are.
    """
    measured = {runner.name: Measured() for runner in runners}
    for _ in range(warmup):
        for runner in runners:
            log.info("batch %d: warm-up of %s", batch, runner.name)
            captured = runner.capture_seconds()
            with _telling_kernels():
                runner.run(*labels_and_seeds(batch, 0, classes, device))
            measured[runner.name].capture_seconds += runner.capture_seconds() - captured
    for repeat in range(repeats):
        inputs = labels_and_seeds(batch, repeat, classes, device)
        first = repeat % len(runners)
        for runner in (*runners[first:], *runners[:first]):
            ours = measured[runner.name]
            started = now(device)
            runner.run(*inputs)
            ours.seconds.append(now(device) - started)
            log.info("batch %d: %d/%d %s %.3f s", batch, repeat + 1, repeats, runner.name, ours.seconds[-1])
        for runner in runners:
            if runner.strategy is not None:
                _run_clocked(runner, inputs, measured[runner.name], device)
    inputs = labels_and_seeds(batch, 0, classes, device)
    for runner in runners:
        log.info("batch %d: memory of %s", batch, runner.name)
        for other in runners:
            other.release()
        measured[runner.name].peak_bytes = peak_bytes(device, lambda runner=runner: runner.run(*inputs))
        if device.type == "cuda":
            measured[runner.name].launches = _launches(runner, inputs, device)
    return measured


@contextlib.contextmanager
def _telling_kernels() -> Iterator[None]:
    """Has the attention kernels and the captured graphs logged; finding out takes time, so not while one is timed."""
    loggers = [logging.getLogger(name) for name in ("sdvar.attention", "sdvar.graphs")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _run_clocked(runner: Runner, inputs: tuple[Tensor, Tensor], ours: Measured, device: torch.device) -> None:
    clock = Clock(device)
    started = now(device)
    stats = runner.run(*inputs, clock)
    ours.clocked.append((now(device) - started, clock.stretches()))
    ours.target_calls.append(stats.target_calls.double().mean().item())
    ours.draft_calls.append(stats.draft_calls.double().mean().item())


def _launches(runner: Runner, inputs: tuple[Tensor, Tensor], device: torch.device) -> int:
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        runner.run(*inputs)
        torch.cuda.synchronize(device)
    return sum(event.name.startswith(LAUNCHES) for event in profiler.events())
