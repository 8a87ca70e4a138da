"""Memory and time of loading a checkpoint: a file of random numbers, loaded in a fresh process."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

import sdvar
from eval.benchmarking.models import PYRAMID_256
from eval.estimates.memory import resident_bytes
from sdvar.models.cost import state_bytes
from sdvar.models.dtypes import DTYPES
from sdvar.system import steps

INTERVAL = 0.005  # seconds between two looks at the memory


class Load(NamedTuple):
    """The statistics of one load; memory in bytes.

    Attributes:
        file: size of the file.
        model: size of all tensors of the loaded model.
        parameters: of the model.
        before: anonymous memory of the process after a tiny model was loaded: Python and torch.
        peak: the largest anonymous memory while it loads.
        seconds: from the call to the model.
    """

    file: int
    model: int
    parameters: int
    before: int
    peak: int
    seconds: float

    @property
    def ratio(self) -> float:
        """What loading takes at its peak, over the model's size."""
        return (self.peak - self.before) / self.model


def measure(file: Path, depth: int, dtype: str) -> Load:
    """Makes a file and loads it, each in a process of its own.

    Args:
        file: a path ending in .pth or .safetensors.
        depth: of the VAR.
        dtype: of the loaded blocks.
    """
    steps.log.info("making %s", file)
    try:
        _in_a_fresh_process(_make, file, depth)
    except (RuntimeError, OSError, MemoryError) as error:
        problem = f"{file}: making the file failed; is there enough memory and disk for depth {depth}?"
        raise RuntimeError(problem) from error
    steps.log.info("loading it")
    return _in_a_fresh_process(_load, file, dtype)


def _in_a_fresh_process(work: Callable, *arguments: object) -> Any:
    quietly = signal.signal, (signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches this process too
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), *quietly) as pool:
        return pool.submit(work, *arguments).result()


def _make(file: Path, depth: int) -> None:
    state = sdvar.VAR(PYRAMID_256, depth=depth, width=64 * depth, heads=depth).state_dict()
    torch.save(state, file) if file.suffix == ".pth" else save_file(state, file)


def _load(file: Path, dtype: str) -> Load:
    # torch imports another 0.1 GB of itself for the first model on the meta device, whatever its size
    sdvar.load_var(sdvar.VAR((1,), depth=1, width=64, heads=1).state_dict())
    seen, loaded = [resident_bytes("RssAnon")], threading.Event()

    def watch() -> None:
        while not loaded.wait(INTERVAL):
            seen.append(resident_bytes("RssAnon"))

    threading.Thread(target=watch, daemon=True).start()
    started = time.perf_counter()
    model = sdvar.load_var(file, dtype=DTYPES[dtype])
    seconds = time.perf_counter() - started
    loaded.set()
    peak = max(*seen, resident_bytes("RssAnon"))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Load(file.stat().st_size, state_bytes(model), parameters, seen[0], peak, seconds)
