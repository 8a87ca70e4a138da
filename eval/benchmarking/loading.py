"""Memory and time of loading a checkpoint: a file of random numbers, loaded in a fresh process."""

from __future__ import annotations

import multiprocessing
import re
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file

import sdvar
from sdvar.models.cost import state_bytes

INTERVAL = 0.005  # seconds between two looks at the memory
PYRAMID = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)  # of the released 256 px models


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
    context = multiprocessing.get_context("spawn")  # a fresh interpreter
    maker = context.Process(target=_make, args=(file, depth))
    maker.start()
    maker.join()
    if maker.exitcode:
        raise RuntimeError(f"{file}: making the file failed; is there enough memory and disk for depth {depth}?")
    here, there = context.Pipe()
    loader = context.Process(target=_load, args=(file, dtype, there))
    loader.start()
    there.close()
    here.recv()
    before = peak = _anonymous(loader.pid)
    here.send("go")
    while not here.poll(INTERVAL):
        peak = max(peak, _anonymous(loader.pid))
    seconds, model, parameters = here.recv()
    peak = max(peak, _anonymous(loader.pid))
    here.send("done")
    loader.join()
    return Load(file.stat().st_size, model, parameters, before, peak, seconds)


def _make(file: Path, depth: int) -> None:
    state = sdvar.VAR(PYRAMID, depth=depth, width=64 * depth, heads=depth).state_dict()
    torch.save(state, file) if file.suffix == ".pth" else save_file(state, file)


def _load(file: Path, dtype: str, parent: Connection) -> None:
    # torch imports another 0.1 GB of itself for the first model on the meta device, whatever its size
    sdvar.load_var(sdvar.VAR((1,), depth=1, width=64, heads=1).state_dict())
    parent.send("ready")
    parent.recv()
    started = time.perf_counter()
    model = sdvar.load_var(file, dtype=getattr(torch, dtype))
    seconds = time.perf_counter() - started
    parent.send((seconds, state_bytes(model), sum(parameter.numel() for parameter in model.parameters())))
    parent.recv()


def _anonymous(pid: int) -> int:
    """Anonymous memory of a process, in bytes."""
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])
