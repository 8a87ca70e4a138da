"""The steps in their order, and what runs them within their time."""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

import sdvar
from eval.contact.options import TINY
from eval.contact.record import Record
from eval.contact.step import FAILED, Outcome, Place, Step
from eval.contact.steps import (
    blocks,
    devices,
    eager,
    environment,
    graphs,
    head,
    invariance,
    kernel,
    processes,
    selftest,
    table,
)

LIMIT = 600.0  # seconds
GRACE = 30.0  # of them, for imports before the first step and for what ends a run that is late
LOUD = ("sdvar", "eval.benchmark")

STEPS = (
    Step("environment", "the machine, and one product on its GPU", environment.run),
    Step("eager", "decoding operation by operation, against the CPU", eager.run),
    Step("selftest", "the checks of `python -m sdvar.selftest`, on the GPU", selftest.run),
    Step("graphs", "passes replayed as CUDA graphs, against those without", graphs.run),
    Step("kernel", "the Triton kernel that picks tokens, against torch's operations", kernel.run),
    Step(
        "blocks", "the Triton kernels between products, of blocks and of f-hat, against torch's operations", blocks.run
    ),
    Step("head", "the Triton kernel of the head, against torch's float32 product", head.run),
    Step("invariance", "an image is the same in every batch, and by Coupled as by Baseline", invariance.run),
    Step("devices", "a second GPU decodes what the first one does", devices.run),
    Step("processes", "`lightning_modules predict` in processes that speak by NCCL", processes.run),
    Step("table", "time and memory beside the roofline", table.run),
)


def prepare(options: Namespace) -> tuple[Place, Record]:
    """Where the steps run, and what keeps their outcomes; the time runs from here on.

    Raises:
        ValueError: if there is no GPU.
        OSError: if the folder cannot be written.
    """
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise ValueError(
            f"expected a GPU, got none from torch {torch.__version__} ({built}); on a CPU `python -m sdvar.selftest` "
            "checks decoding and `python eval/benchmark.py` measures it"
        )
    Path(options.out).mkdir(parents=True, exist_ok=True)
    record, ends = Record(Path(options.out), options.size), time.monotonic() + LIMIT - GRACE
    place = Place(
        torch.device("cuda", torch.cuda.current_device()), options.out, options.size == TINY, options.original,
        left=lambda: ends - time.monotonic(), note=record.note,
    )  # fmt: skip
    return place, record


def run(steps: Sequence[Step], place: Place, record: Record, end: Callable[[int], object] = os._exit) -> int:
    """Runs the steps up to the first that fails; prints their verdicts and writes both files after each.

    A step that does not end in time, which nothing in Python can stop, ends the process.

    Args:
        end: ends the process with a status.

    Returns:
        The exit status: 0 if no step failed, else 1.
    """

    def late() -> None:
        record.fail(f"did not end within {LIMIT / 60:.0f} minutes, and was stopped")
        end(1)

    watch = threading.Timer(max(0.0, place.left()), late)
    watch.daemon = True
    watch.start()
    try:
        for number, step in enumerate(steps, 1):
            record.begin(f"[{number}/{len(steps)}]", step)
            with _warnings() as warnings, sdvar.Engine().numerics():
                outcome = _outcome(step, place)
            record.end(outcome, warnings)
            if outcome.verdict == FAILED:
                break
    finally:
        watch.cancel()
    return record.close([step.name for step in steps])


def _outcome(step: Step, place: Place) -> Outcome:
    try:
        return step.run(place)
    except Exception as error:  # of any kind: what goes wrong on a first GPU is not known
        line = " ".join(str(error).split())[:500]
        return Outcome(f"{type(error).__name__}: {line}", FAILED, {"traceback": traceback.format_exc()})


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects what the project warns of within a block of code."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in LOUD]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield lines
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
