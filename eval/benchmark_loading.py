"""Memory and time of loading a checkpoint: a file of random numbers, loaded in a fresh process.

    python eval/benchmark_loading.py                              # d30: writes 8 GB, needs 8 GB of memory to make them
    python eval/benchmark_loading.py --depth 16 --form safetensors

What counts is anonymous memory: the pages of the mapped file belong to the operating system, which drops them when it
needs to. The exit status is 1 if loading takes more than LIMIT times the loaded model's size.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from sdvar.command_line import ArgumentParser

LIMIT = 1.3
DTYPES = ("bfloat16", "float16", "float32")
INTERVAL = 0.005  # seconds between two looks at the memory
PYRAMID = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)  # of the released 256 px models


class Figures(NamedTuple):
    """Of one load; memory in bytes.

    Attributes:
        file: size of the file.
        model: size of all tensors of the loaded model.
        parameters: of the model.
        before: anonymous memory of the process before it loads, once a tiny model was: Python and torch.
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; see its --help."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.depth < 1:
        parser.error(f"--depth: expected at least 1, got {options.depth}")
    if not Path("/proc/self/status").exists():
        parser.error("anonymous memory is read from /proc, which this system lacks")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = measure(Path(folder) / f"var.{options.form}", options.depth, options.dtype)
    print(f"file     {figures.file / 1e9:7.3f} GB  .{options.form}, float32, depth {options.depth}, "
          f"{figures.parameters:,} parameters")  # fmt: skip
    print(f"model    {figures.model / 1e9:7.3f} GB  {options.dtype}")
    print(f"before   {figures.before / 1e9:7.3f} GB  anonymous memory of the process with a tiny model")
    print(f"peak     {figures.peak / 1e9:7.3f} GB  anonymous memory of the process while loading")
    print(f"ratio    {figures.ratio:7.3f}     (peak - before) / model; limit {LIMIT}")
    print(f"time     {figures.seconds:7.1f} s")
    return 0 if figures.ratio <= LIMIT else 1


def build_parser() -> ArgumentParser:
    """The command line of `eval/benchmark_loading.py`."""
    parser = ArgumentParser("eval/benchmark_loading.py", description=__doc__)
    parser.add_argument("--depth", type=int, default=30, help="of the VAR; its width is 64 times that. Default 30")
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help="of the loaded blocks. Default bfloat16")
    parser.add_argument("--form", choices=("pth", "safetensors"), default="pth", help="of the file. Default pth")
    parser.add_argument("--folder", type=Path, help="where the file lies for a while; default: the temporary folder")
    return parser


def measure(file: Path, depth: int, dtype: str) -> Figures:
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
    return Figures(file.stat().st_size, model, parameters, before, peak, seconds)


def _make(file: Path, depth: int) -> None:
    import torch
    from safetensors.torch import save_file

    import sdvar

    state = sdvar.VAR(PYRAMID, depth=depth, width=64 * depth, heads=depth).state_dict()
    torch.save(state, file) if file.suffix == ".pth" else save_file(state, file)


def _load(file: Path, dtype: str, parent: Connection) -> None:
    import torch

    import sdvar

    # torch imports another 0.1 GB of itself for the first model without memory; that grows with no model
    sdvar.load_var(sdvar.VAR((1,), depth=1, width=64, heads=1).state_dict())
    parent.send("ready")
    parent.recv()
    started = time.perf_counter()
    model = sdvar.load_var(file, dtype=getattr(torch, dtype))
    seconds = time.perf_counter() - started
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    parent.send((seconds, size, sum(parameter.numel() for parameter in model.parameters())))
    parent.recv()


def _anonymous(pid: int) -> int:
    """Anonymous memory of a process, in bytes."""
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])


if __name__ == "__main__":
    sys.exit(main())
