"""Decode a grid of strategies over one baseline, measure them and write one report."""

from __future__ import annotations

from collections.abc import Sequence

import sdvar
from eval import fid
from eval.cli import options as fid_options
from eval.cli.grid import expand, refuse_twins
from eval.cli.groups import Options, read
from lightning_modules.arms.arm import build_arms
from lightning_modules.options.command_line import ArgumentParser
from sdvar.system.interrupts import well_behaved

COMMAND = "eval/sweep.py"
DESCRIPTION = """Decode a grid of strategies over one baseline, measure each as eval/fid.py does, write one report.

Takes the options of eval/fid.py and the grid. The same command again continues an interrupted sweep and decodes what
was added to the grid; the baseline is decoded once."""
EXAMPLES = """examples:
  python eval/sweep.py --config configs/sweep_tiny.yaml                            # the bundled pair
  python eval/sweep.py --config configs/sweep_tiny.yaml --strategy late=Handoff --strategy.entry 5
  python eval/sweep.py --config configs/sweep_imagenet.yaml --devices 8            # all released models"""
GRID_HELP = (
    "the points, in a config: a mapping NAME: {class_path, init_args, draft, sampling}, where a list gives one point "
    "for each of its values (docs/sweeps.md); --strategy adds single points"
)


def build_parser() -> ArgumentParser:
    """The command line of `eval/sweep.py`."""
    parser = fid_options.build_parser(COMMAND, DESCRIPTION, EXAMPLES)
    parser.add_argument("--grid", type=dict | None, help=GRID_HELP)
    parser.set_defaults(out="runs/sweep")
    return parser


def parse(arguments: Sequence[str]) -> Options:
    """Options of `eval/fid.py` from the sweep's: every point of the grid is an arm.

    Raises:
        ValueError: with one line that says what is wrong, and with which point.
    """
    given, arms = read(build_parser(), arguments)
    grid = given.pop("grid") or {}
    single = {**(given.strategy or {}), **arms}
    if not grid and not single:
        raise ValueError("grid: expected points to decode, got none; see configs/sweep_tiny.yaml")

    points = expand(grid)
    twice = sorted(points.keys() & single.keys())
    if twice:
        raise ValueError(f"grid: two points are called {twice[0]!r}; rename the one given as strategy")
    options = fid_options.complete(given, points | single)
    refuse_twins(build_arms(options.strategy, sdvar.Sampling(**options.sampling.as_dict())))
    return options


@well_behaved(COMMAND, "what is finished is kept, and the same command continues")
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/sweep.py --help`."""
    fid.run(COMMAND, parse, arguments, extend=True)


if __name__ == "__main__":
    main()
