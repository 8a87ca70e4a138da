"""Memory and time of loading a checkpoint: a file of random numbers, loaded in a fresh process.

    python eval/benchmark_loading.py                              # d30: writes 8 GB, needs 8 GB of memory to make them
    python eval/benchmark_loading.py --depth 16 --form safetensors

What counts is anonymous memory: the pages of the mapped file belong to the operating system, which drops them when it
needs to. The exit status is 1 if loading takes more than LIMIT times the loaded model's size.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sdvar.models.dtypes import DTYPES
from sdvar.system.command_line import ArgumentParser, count, stop
from sdvar.system.interrupts import well_behaved

COMMAND = "eval/benchmark_loading.py"
LIMIT = 1.3


@well_behaved(COMMAND, "its files are removed, give the command again")
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; see its --help."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if not Path("/proc/self/status").exists():
        parser.error("anonymous memory is read from /proc, which this system lacks")

    from eval.benchmarking.loading import measure

    try:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            load = measure(Path(folder) / f"var.{options.form}", options.depth, options.dtype)
    except (RuntimeError, OSError) as error:
        stop(COMMAND, error)
    print(f"file     {load.file / 1e9:7.3f} GB  .{options.form}, float32, depth {options.depth}, "
          f"{load.parameters:,} parameters")  # fmt: skip
    print(f"model    {load.model / 1e9:7.3f} GB  {options.dtype}")
    print(f"before   {load.before / 1e9:7.3f} GB  anonymous memory of the process with a tiny model")
    print(f"peak     {load.peak / 1e9:7.3f} GB  anonymous memory of the process while loading")
    print(f"ratio    {load.ratio:7.3f}     (peak - before) / model; limit {LIMIT}")
    print(f"time     {load.seconds:7.1f} s")
    return 0 if load.ratio <= LIMIT else 1


def build_parser() -> ArgumentParser:
    """The command line of `eval/benchmark_loading.py`."""
    parser = ArgumentParser(COMMAND, description=__doc__)
    parser.add_argument("--depth", type=count, default=30, help="of the VAR; its width is 64 times that. Default 30")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="of the loaded blocks. Default bfloat16")
    parser.add_argument("--form", choices=("pth", "safetensors"), default="pth", help="of the file. Default pth")
    parser.add_argument("--folder", type=Path, help="where the file lies for a while; default: the temporary folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
