"""The options of `eval/plan.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse.typing import ClosedUnitInterval

from eval.benchmarking.options import add_simulation, complete_simulation
from eval.cli import groups
from eval.cli.groups import Options
from lightning_modules.options.command_line import Above, ArgumentParser, Count

OUT = "plan.yaml"

DESCRIPTION = """Find the fastest schedule for a pair, a batch size and this machine.

Measures what passes cost here and where the draft agrees with its target, searches the schedule of the least expected
time, measures it beside the baseline and every fixed gamma, and writes a config for eval/fid.py. Lossless, unless
--max_disagreement allows some tokens to differ from the baseline's."""
EXAMPLES = """examples:
  python eval/plan.py
  python eval/plan.py --batch_size 1 --max_disagreement 0.3 --out lossy.yaml
  python eval/plan.py --draft var_d16.pth --target var_d30.pth --tokenizer vae_ch160v4096z32.pth --batch_size 1
  python eval/fid.py --config plan.yaml"""


def build_parser() -> ArgumentParser:
    """The command line; every option is also a key of the config file."""
    parser = ArgumentParser(prog="eval/plan.py", description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    groups.add_models(parser)
    add_simulation(parser, "drafted scales, whatever they contain,")
    add("--batch_size", type=Count, default=50, help="images decoded together: what is fastest depends on it")
    add(
        "--max_disagreement",
        type=ClosedUnitInterval,
        default=0.0,
        help="share of tokens that may differ from the baseline's; 0 is lossless",
    )
    add("--images", type=Count, default=64, help="images on which agreement is measured")
    add("--seconds", type=Above, default=60.0, help="time to measure costs, and again to compare the candidates")
    groups.add_sampling(parser)
    groups.add_engine(parser, graphs=False)
    add("--out", type=str | None, metavar="FILE.yaml", help=f"the config to write for eval/fid.py ({OUT})")
    add("--overwrite", type=bool, default=False, help="replace that file if it exists")
    return parser


def parse(arguments: Sequence[str]) -> Options:
    """Options from a command line, checked as far as they do not depend on the models.

    Returns:
        The options; ``acceptance`` is None or a list of rates, ``random_weights`` None or a list of sizes, target
        first, ``out`` None where no config can be written.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    given, arms = groups.read(build_parser(), arguments)
    if arms:
        raise ValueError(
            "--strategy: expected none, this command finds the strategy; eval/benchmark.py times given ones"
        )
    out = given.out if given.acceptance else given.out or OUT
    options = groups.complete(given, out=out, **complete_simulation(given))
    if options.acceptance:
        _check_simulated(options)
    elif options.random_weights:
        raise ValueError(
            "random_weights: expected --acceptance simulated:RATES too; the agreement of random weights is meaningless"
        )
    else:
        _check_out(out, options.overwrite)
    return options


def _check_simulated(options: Options) -> None:
    if options.max_disagreement:
        raise ValueError(
            "max_disagreement: expected 0 with --acceptance simulated:RATES, under which tokens are meaningless; "
            f"got {options.max_disagreement}"
        )
    if options.out is not None:
        raise ValueError(f"out: expected none with simulated acceptance, which no run can use; got {options.out!r}")


def _check_out(out: str, overwrite: bool) -> None:
    file = Path(out)
    if file.suffix not in (".yaml", ".yml") or not file.absolute().parent.is_dir():
        raise ValueError(f"out: expected a .yaml file in a folder that exists, got {out!r}")
    if file.exists() and not overwrite:
        raise ValueError(f"out: {out!r} exists; --overwrite replaces it, or name another file")
