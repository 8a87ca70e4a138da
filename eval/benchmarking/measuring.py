"""Runs everything that is compared, in turns, and keeps the raw measurements."""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import sdvar
from eval.benchmarking.memory import peak_bytes
from eval.benchmarking.simulated import Simulated
from sdvar.decoding.timing import Clock, Stretch, now
from sdvar.models.cost import weight_bytes

log = logging.getLogger("eval.benchmark")

LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")  # how the names of these calls begin


class Runner(ABC):
    """A named way of decoding a batch.

    Attributes:
        name: in the table and in the JSON file.
        strategy: None for the original code.
    """

    name: str
    strategy: sdvar.Strategy | None

    @property
    def simulated(self) -> bool:
        """Whether its speed rests on simulated acceptance."""
        return False

    @abstractmethod
    def run(self, labels: Tensor, seeds: Tensor, clock: Clock | None = None) -> sdvar.DecodeStats | None:
        """Decode one batch, int64 (B,) each; the statistics, if it counts any."""

    @abstractmethod
    def weight_bytes(self) -> int:
        """Bytes of the models that it runs."""

    def capture_seconds(self) -> float:
        """Seconds that its models have spent on capturing CUDA graphs so far."""
        return 0.0

    def release(self) -> None:  # noqa: B027 - the original keeps nothing
        """Free memory that is kept from one decode to the next."""


@dataclass
class StrategyRunner(Runner):
    """A strategy of sdvar.

    Args:
        name, strategy: see `Runner`.
        pair: the models.
        sampling: how tokens are drawn.
        images: whether the tokenizer's decoder runs.
    """

    name: str
    strategy: sdvar.Strategy
    pair: sdvar.ModelPair
    sampling: sdvar.Sampling
    images: bool

    @property
    def simulated(self) -> bool:
        return isinstance(self.strategy, sdvar.Speculative) and isinstance(self.strategy.acceptance, Simulated)

    def run(self, labels: Tensor, seeds: Tensor, clock: Clock | None = None) -> sdvar.DecodeStats:
        return sdvar.decode(self.pair, labels, seeds, self.strategy, self.sampling, self.images, clock).stats

    def weight_bytes(self) -> int:
        plain = isinstance(self.strategy, sdvar.Baseline)
        models = {getattr(self.pair, self.strategy.model)} if plain else {self.pair.draft, self.pair.target}
        return sum(model.weight_bytes() for model in models) + weight_bytes(self.pair.tokenizer)

    def capture_seconds(self) -> float:
        return sum(model.capture_seconds for model in {self.pair.draft, self.pair.target})

    def release(self) -> None:
        for model in (self.pair.draft, self.pair.target):
            model.release()


@dataclass
class Measured:
    """Raw measurements of one runner at one batch size.

    Attributes:
        seconds: of the runs that are timed as a whole.
        clocked: of the runs with a clock inside, their whole time and their stretches.
        target_calls, draft_calls: passes per image, mean over the images of each of those runs.
        peak_bytes: what a run takes beyond the weights, see `memory.peak_bytes`.
        launches: kernels and graphs launched in one run; None on the CPU.
        capture_seconds: of its warm-up, spent on capturing CUDA graphs.
    """

    seconds: list[float] = field(default_factory=list)
    clocked: list[tuple[float, list[Stretch]]] = field(default_factory=list)
    target_calls: list[float] = field(default_factory=list)
    draft_calls: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    launches: int | None = None
    capture_seconds: float = 0.0


def labels_and_seeds(batch: int, repeat: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs of one run, the same for every runner: labels spread over the classes, other seeds in each run."""
    image = torch.arange(repeat * batch, (repeat + 1) * batch)
    return (image * 97 % classes).to(device), image.to(device)


def rotated(items: Sequence, turn: int) -> list:
    """The items in their order, beginning with another one in each turn, so that drift treats all alike."""
    first = turn % len(items)
    return [*items[first:], *items[:first]]


def measure(
    runners: Sequence[Runner], batch: int, classes: int, device: torch.device, warmup: int, repeats: int
) -> dict[str, Measured]:
    """Measures all runners at one batch size.

    They take turns, in an order that rotates, so that a machine that warms up or slows down affects them alike. Each
    turn is two runs of the same inputs: one timed as a whole, then one with a clock inside.

    Args:
        runners: what is compared; those with a strategy take a clock.
        batch: images per run.
        classes: number of classes.
        device: where the models are.
        warmup, repeats: turns before counting, turns that count.
    """
    measured = {runner.name: Measured() for runner in runners}
    for _ in range(warmup):
        for runner in runners:
            log.info("batch %d: warm-up of %s", batch, runner.name)
            captured = runner.capture_seconds()
            with _logging_kernels():
                runner.run(*labels_and_seeds(batch, 0, classes, device))
            measured[runner.name].capture_seconds += runner.capture_seconds() - captured
    for repeat in range(repeats):
        inputs = labels_and_seeds(batch, repeat, classes, device)
        for runner in rotated(runners, repeat):
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
def _logging_kernels() -> Iterator[None]:
    """Logs attention kernels and captured graphs; finding out takes time, so not while a run is timed."""
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
