"""Check that a pair of models decodes exactly what its weights mean, on this machine.

    python -m sdvar.selftest                     # the bundled pair
    python -m sdvar.selftest --draft var_d16.pth --target var_d30.pth --tokenizer vae_ch160v4096z32.pth --dtype bfloat16

Exit status: 0 if every check passes, 1 if one fails, 2 if the arguments or the files are wrong.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

import torch

import sdvar
from sdvar.drafts import PREFIX
from sdvar.models.dtypes import AUTO, DTYPES
from sdvar.selftest import CheckResult, SDVARParallelV1Tester
from sdvar.system.command_line import ArgumentParser, count, needs, stop, threads
from sdvar.system.interrupts import well_behaved

try:
    from rich.console import Console
    from rich.table import Table
except ModuleNotFoundError as error:
    raise SystemExit(f"python -m sdvar.selftest: error: {needs(error)}") from None


@well_behaved("python -m sdvar.selftest", "give the command again")
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; see `python -m sdvar.selftest --help`."""
    options = build_parser().parse_args(arguments)
    files = {name: getattr(options, name) for name in ("draft", "target", "tokenizer")}
    own = options.target or options.tokenizer or (options.draft and not options.draft.startswith(PREFIX))
    pair_name = options.pair if options.pair or own else "tiny"
    try:
        device = find_device(options.device)
        pair = sdvar.load_pair(pair_name, **files, device=device, dtype=DTYPES.get(options.dtype, AUTO))
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        stop("python -m sdvar.selftest", error)
    with sdvar.Engine(threads=options.threads).numerics():  # as in decoding to files
        results = SDVARParallelV1Tester(pair).run_all_tests(options.batch_size, options.gamma)
    dtype = str(pair.target.dtype).removeprefix("torch.")
    print_table(results, f"{pair_name or options.target} on {device}, {dtype}")
    return 0 if all(result.passed for result in results) else 1


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m sdvar.selftest`."""
    parser = ArgumentParser("python -m sdvar.selftest", description=__doc__)
    parser.add_argument("--pair", metavar="NAME", help="a bundled pair; 'tiny' if no checkpoint is given either")
    for name, more in (
        ("draft", ", or made of the target of any pair: target:int8"),
        ("target", ""),
        ("tokenizer", ""),
    ):
        parser.add_argument(f"--{name}", metavar="FILE", help=f"checkpoint of the {name}{more}")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, …; cuda if there is one, else cpu")
    what = "of the weights; auto: bfloat16 where the device multiplies it in hardware; default %(default)s"
    parser.add_argument("--dtype", choices=(*DTYPES, AUTO), default="float32", help=what)
    parser.add_argument("--batch_size", type=count, default=2, metavar="B", help="images; default %(default)s")
    parser.add_argument("--gamma", type=count, default=2, metavar="G", help="scales per round; default %(default)s")
    parser.add_argument(
        "--threads", type=threads, metavar="N", help="CPU threads; default: OMP_NUM_THREADS or all cores"
    )
    return parser


def find_device(asked: str | None) -> str:
    """The device to run on; ValueError if the name is invalid or there is no such device."""
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked is None:
        return "cuda" if devices else "cpu"
    kind, _, index = asked.partition(":")
    if kind not in ("cpu", "cuda") or (":" in asked and not index.isdecimal()):
        raise ValueError(f"--device: expected cpu, cuda or cuda:N, got {asked!r}")
    if kind == "cuda" and int(index or 0) >= devices:
        raise ValueError(f"--device: {asked} asked for, but {devices} CUDA devices are found; --device cpu needs none")
    return asked


def print_table(results: Sequence[CheckResult], title: str) -> None:
    """Print one row per check on stdout."""
    table = Table(title=f"Selftest of {title}")
    for column in ("check", "passed", "number", "limit"):
        table.add_column(column, justify="right" if column in ("number", "limit") else "left", no_wrap=True)
    table.add_column("what it means", min_width=40)
    for result in results:
        numbers = ("-" if math.isnan(value) else f"{value:.2g}" for value in (result.number, result.limit))
        row = (result.test_name, "yes" if result.passed else "NO", *numbers, result.message)
        table.add_row(*row, style=None if result.passed else "bold red")
    # A file or a pipe has no width. 120 columns cut no name or number.
    Console(width=None if sys.stdout.isatty() else 120, markup=False).print(table)
    print(f"{sum(result.passed for result in results)} of {len(results)} checks passed")


if __name__ == "__main__":
    sys.exit(main())
