"""The options of `eval/benchmark.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

import sdvar
from eval.cli.arms import default_arms
from eval.cli.groups import Options, add_engine, add_models, complete, read
from lightning_modules.arms.arm import Arm, build_arms
from lightning_modules.options.command_line import ArgumentParser, Count
from lightning_modules.options.sampling import RELEASED_SAMPLING, add_sampling
from sdvar.system.command_line import check_output

RANDOM = ("d16", "d20", "d24", "d30", "d36")
SIMULATED = "simulated:"
ARMS = ("speculative", "tail", "handoff")  # of the default ones

DESCRIPTION = """Time and memory of strategies side by side, in one process, beside the least that the machine can take.

Without options: the bundled pair. Without checkpoints: --random_weights d30,d16. The baseline is always among the
strategies; `--strategy Baseline` measures it alone."""

EXAMPLES = """examples:
  python eval/benchmark.py                                   # the bundled pair
  python eval/benchmark.py --random_weights d16 --strategy Baseline --batch_size 1,4 --original ../VAR
  python eval/benchmark.py --random_weights d30,d16 --precision bf16-true --batch_size 1 \\
      --strategy Speculative --strategy.gamma TokenBudget --strategy.gamma.n 400 --acceptance simulated:1"""


def build_parser() -> ArgumentParser:
    """The command line; every option is also a key of the config file."""
    parser = ArgumentParser(prog="eval/benchmark.py", description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    add_models(parser)
    add_simulation(parser, "scales of every Speculative")
    add(
        "--strategy",
        type=dict | None,
        metavar="[NAME=]CLASS",
        help="a strategy beside the baseline, in place of the default ones; repeatable, its parameters follow it: "
        "--strategy fast=Speculative --strategy.gamma 2",
    )
    add("--original", type=str | None, metavar="PATH", help="a checkout of the original VAR code, measured as well")
    add_sampling(parser)
    parser.set_defaults({f"sampling.{name}": value for name, value in RELEASED_SAMPLING.items()})
    add("--batch_size", type=int | list[int] | str, default=[1, 4], help="images together, such as 1,4; or auto")
    add("--images", type=bool, default=True, help="false leaves the tokenizer's decoder out")
    add("--warmup", type=Count, default=1, help="runs of each strategy that are not counted")
    add("--repeats", type=Count, default=5, help="runs of each strategy that are counted, each with other seeds")
    add_engine(parser, graphs=True)
    add("--out", type=str | None, metavar="FILE.json", help="also write all metrics there")
    return parser


def parse(arguments: Sequence[str]) -> Options:
    """Options from a command line, checked as far as they do not depend on the models.

    Returns:
        The options; ``batch_size`` is a list of ints or "auto", ``acceptance`` None or a list of rates,
        ``random_weights`` None or a list of sizes, target first.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    given, arms = read(build_parser(), arguments)
    strategy = arms or given.strategy
    for name, arm in (strategy or {}).items():
        if isinstance(arm, dict) and arm.get("reseed"):
            raise ValueError(f"strategy {name!r}: reseed: expected none, a benchmark compares the same seeds")
    batch_sizes = _batch_sizes(given.batch_size)
    options = complete(given, strategy=strategy, batch_size=batch_sizes, **complete_simulation(given))
    _check_original(options)
    if options.out is not None and not options.out.endswith(".json"):
        raise ValueError(f"out: expected a .json file, got {options.out!r}")
    check_output(options.out)
    return options


def arms_of(options: Namespace, scales: int) -> list[Arm]:
    """The arms, the baseline first; the default ones depend on the number of scales.

    Raises:
        ValueError: as `lightning_modules.arms.arm.build_arm`.
    """
    defaults = {name: arm for name, arm in default_arms(scales, options.pair).items() if name in ARMS}
    return build_arms(options.strategy or defaults, sdvar.Sampling(**options.sampling.as_dict()))


def add_simulation(parser: ArgumentParser, scales: str) -> None:
    """Adds random weights and given acceptance rates; ``scales`` says in the help which ones are accepted so."""
    parser.add_argument(
        "--random_weights",
        type=str | None,
        metavar="TARGET,DRAFT",
        help=f"random weights in released sizes instead, of {', '.join(RANDOM)}; one size is target and draft, or the "
        "target of --draft target:int8",
    )
    rates = "simulated:RATES, one per scale such as 1,1,0.5,0 or one for all"
    parser.add_argument("--acceptance", type=str | None, help=f"{rates}: {scales} are accepted at these rates")


def complete_simulation(given: Namespace) -> dict[str, Any]:
    """The random sizes, target first, and the acceptance rates as lists; None where not given.

    Raises:
        ValueError: a text is not such a list, or two drafts are given.
    """
    if given.draft and len(_random(given.random_weights) or ()) > 1:
        raise ValueError(
            f"random_weights: expected the target alone with --draft {given.draft}, got {given.random_weights}"
        )
    return {"random_weights": _random(given.random_weights), "acceptance": _rates(given.acceptance)}


def _random(given: str | None) -> list[str] | None:
    if given is None:
        return None
    sizes = given.replace(" ", "").split(",")
    if len(sizes) > 2 or any(size not in RANDOM for size in sizes):
        raise ValueError(f"random_weights: expected TARGET or TARGET,DRAFT of {', '.join(RANDOM)}, got {given!r}")
    if "d36" in sizes and set(sizes) != {"d36"}:
        raise ValueError(f"random_weights: d36 makes images of 512 px, the others of 256; got {given!r}")
    return sizes


def _rates(given: str | None) -> list[float] | None:
    if given is None:
        return None
    try:
        rates = [float(part) for part in given.removeprefix(SIMULATED).split(",")]
    except ValueError:
        rates = []
    if not given.startswith(SIMULATED) or not rates or not all(0 <= rate <= 1 for rate in rates):
        raise ValueError(f"acceptance: expected {SIMULATED}RATES with probabilities such as 1,1,0.5,0, got {given!r}")
    return rates


def _batch_sizes(given: int | list[int] | str) -> list[int] | str:
    if given == "auto":
        return given
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else [given]
    try:
        sizes = [int(part) for part in parts]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
        raise ValueError(f"batch_size: expected different ints >= 1 such as 1,4, or auto; got {given!r}")
    return sizes


def check_checkout(path: str) -> None:
    """Raise ValueError unless the path is that of a checkout of the original code, as far as its files show."""
    if not (Path(path) / "models" / "__init__.py").is_file():
        raise ValueError(f"original: expected a checkout of the VAR code with a package 'models' in it, got {path!r}")


def _check_original(options: Namespace) -> None:
    if options.original is None:
        return
    check_checkout(options.original)
    if not options.images:
        raise ValueError("images: expected true with --original, which always makes them, got false")
    if options.precision == "64-true":
        raise ValueError("precision: expected 32-true, bf16-true or 16-true with --original, got '64-true'")
    sampling = options.sampling
    if sampling.temperature != 1:
        got = sampling.temperature
        raise ValueError(f"sampling.temperature: expected 1 with --original, which has no other, got {got}")
    if isinstance(sampling.cfg, list) or "cfg_until" in sampling:
        got = f"{sampling.cfg} with cfg_until {sampling.get('cfg_until')}"
        raise ValueError(f"sampling.cfg: expected one number with --original, which guides all scales by it, got {got}")
