"""Look into checkpoint files, or rewrite them.

A file is a .pth or .safetensors file, a training checkpoint, a folder of shards with its index, hf://OWNER/REPO/FILE
[@REVISION], or one of d16, d20, d24, d30, d36, vae for the released files. FILE::PATH is one of several models in it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sdvar.checkpoints.converting import convert
from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.inspecting import COLUMNS, inspect
from sdvar.models.dtypes import DTYPES
from sdvar.system.command_line import ArgumentParser, count, needs
from sdvar.system.interrupts import well_behaved

try:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
except ModuleNotFoundError as error:
    raise SystemExit(f"python -m sdvar.checkpoints: error: {needs(error)}") from None

EXAMPLES = {
    "inspect": (
        "python -m sdvar.checkpoints inspect var_d16.pth vae_ch160v4096z32.pth",
        "python -m sdvar.checkpoints inspect d16 hf://FoundationVision/var/var_d20.pth",
    ),
    "convert": (
        "python -m sdvar.checkpoints convert var_d30.pth var_d30.safetensors --dtype bfloat16",
        "python -m sdvar.checkpoints convert last.pth::ema var.safetensors --kind var",
    ),
}
KINDS = {"var": "VAR", "tokenizer": "tokenizer"}
PROG = "python -m sdvar.checkpoints"
TEXT_COLUMNS = ("file", "kind", "pyramid", "dtype")
WIDTH = 140  # of the table if stdout is not a terminal


@well_behaved(PROG, "no file was written, give the command again")
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status is 0 if all went well, 2 if the arguments or a file are wrong."""
    options = build_parser().parse_args(arguments)
    return _inspect(options) if options.command == "inspect" else _convert(options)


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m sdvar.checkpoints`."""
    parser = ArgumentParser(PROG, description=__doc__, epilog=_examples(*EXAMPLES))
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="say what files hold", epilog=_examples("inspect"))
    inspect.add_argument("files", nargs="+", metavar="FILE")
    inspect.add_flag("--shapes", help="list every tensor with its shape")
    convert_help = "rewrite a file as safetensors, verified by reading it back"
    convert = commands.add_parser("convert", help=convert_help, epilog=_examples("convert"))
    convert.add_argument("source", metavar="IN")
    convert.add_argument("out", type=Path, metavar="OUT.safetensors")
    convert.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="of a VAR's blocks; all else and a tokenizer stay in float32 (float64: everything). Default float32",
    )
    convert.add_argument("--kind", choices=KINDS, help="which one, where IN holds a VAR and a tokenizer")
    convert.add_argument(
        "--patch_nums", type=int, nargs="+", metavar="SIDE", help="pyramid of a VAR whose file does not hold it: 1 2 3"
    )
    convert.add_argument(
        "--heads", type=count, metavar="N", help="attention heads of a VAR whose file does not hold them"
    )
    convert.add_flag("--overwrite", help="replace OUT if it exists")
    return parser


def _examples(*commands: str) -> str:
    return "\n  ".join(("examples:", *(line for command in commands for line in EXAMPLES[command])))


def _inspect(options: argparse.Namespace) -> int:
    table, notes, status = Table(), [], 0
    for title in COLUMNS:
        table.add_column(title, justify="left" if title in TEXT_COLUMNS else "right", overflow="fold")
    for file in options.files:
        try:
            inspected = inspect(file, options.shapes)
            for cells in inspected.rows:
                table.add_row(*map(escape, cells))
            notes += inspected.notes
        except CheckpointError as error:
            status = _complain(error)
    if table.row_count:
        console = Console(width=None if sys.stdout.isatty() else WIDTH, emoji=False)
        console.print(table)
        for note in notes:
            console.print(note, soft_wrap=True, highlight=False, markup=False)
    return status


def _convert(options: argparse.Namespace) -> int:
    dtype, kind = DTYPES[options.dtype], KINDS.get(options.kind)
    try:
        convert(options.source, options.out, dtype, kind, options.patch_nums, options.overwrite, options.heads)
    except (ValueError, TypeError, OSError) as error:
        return _complain(error)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:,.1f} MB, read back and equal")
    return 0


def _complain(error: Exception) -> int:
    print(f"{PROG}: error:", " ".join(str(error).splitlines()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
