"""The options of `eval/first_contact.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from eval.benchmarking.options import check_checkout
from sdvar.system.command_line import ArgumentParser

FULL, TINY = "full", "tiny"

DESCRIPTION = """The first run on a machine with a GPU: is decoding right there, and how fast is it?

Runs its steps in order, each with a verdict, and stops at the first that fails; ten minutes at most. Writes
first_contact.json and first_contact.md into --out, to be sent back together."""

EXAMPLES = """examples:
  python eval/first_contact.py
  python eval/first_contact.py --original ../VAR --out runs/first_contact

exit status: 0 if every step passes, 1 if one fails, 2 without a GPU or for a wrong option"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = ArgumentParser("eval/first_contact.py", description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    add("--out", metavar="DIR", default="runs/first_contact", help="folder of both files; default %(default)s")
    add("--original", metavar="PATH", help="a checkout of the original VAR code, compared and measured as well")
    sizes = "full: the bundled pair, and released sizes with random weights; tiny: the bundled"
    add(
        "--size", choices=(FULL, TINY), default=FULL, help=f"{sizes} pair alone, in about a minute; default %(default)s"
    )
    return parser


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options from a command line; None for that of this process.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    options = build_parser().parse_args(arguments)
    if options.original is not None:
        check_checkout(options.original)
        if options.size == TINY:
            raise ValueError("original: expected --size full, since it builds models of the released sizes; got tiny")
    if Path(options.out).exists() and not Path(options.out).is_dir():
        raise ValueError(f"out: expected a folder, got the file {options.out}")
    return options
