"""The options of `eval/benchmark.py`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, Namespace

from eval.cli.arms import DEFAULT_ARMS, split_arguments
from eval.cli.engine_options import add_engine_options, check_engine_options
from eval.cli.options import MODELS, OTHER_DEFAULTS, PRECISIONS, config_first
from lightning_modules.command_line import ArgumentParser

RANDOM = ("d16", "d20", "d24", "d30", "d36")
SIMULATED = "simulated:"
ARMS = {name: DEFAULT_ARMS[name] for name in ("speculative", "handoff")}

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
    add("--config", action="config", help="YAML file of options; the command line's win over it")
    add("--pair", type=str | None, help="a bundled pair of models (tiny)")
    for name, what in MODELS.items():
        add(f"--{name}", type=str | None, help=f"a checkpoint of your own instead: {what}")
    add(
        "--random_weights",
        type=str | None,
        metavar="TARGET,DRAFT",
        help=f"random weights in released sizes instead, of {', '.join(RANDOM)}; one size is target and draft",
    )
    add(
        "--strategy",
        type=dict | None,
        metavar="[NAME=]CLASS",
        help="a strategy beside the baseline, instead of the default ones; repeatable, its parameters follow it: "
        "--strategy fast=Speculative --strategy.gamma 2",
    )
    add("--acceptance", type=str | None, help="simulated:RATES, one a scale such as 1,1,0.5,0 or one for all: "
        "scales of every Speculative stand with these probabilities")  # fmt: skip
    add("--original", type=str | None, metavar="PATH", help="a checkout of the original VAR code, measured as well")
    add("--sampling.cfg", type=float, default=OTHER_DEFAULTS["sampling"]["cfg"], help="guidance, 0 is off")
    add("--sampling.top_k", type=int, default=OTHER_DEFAULTS["sampling"]["top_k"], help="keep the k best, 0 is off")
    add("--sampling.top_p", type=float, default=OTHER_DEFAULTS["sampling"]["top_p"], help="keep this mass, 0 is off")
    add("--batch_size", type=int | list[int] | str, default=[1, 4], help="images together, such as 1,4; or auto")
    add("--images", type=bool, default=True, help="false leaves the tokenizer's decoder out")
    add("--warmup", type=int, default=1, help="runs of each strategy that are not counted")
    add("--repeats", type=int, default=5, help="runs of each strategy that are, each with other seeds")
    add("--accelerator", type=str, default="auto", help="auto, cpu or cuda")
    add("--threads", type=int | None, help="CPU threads (the cores there are)")
    add("--precision", type=str, default="32-true", help=", ".join(PRECISIONS))
    add_engine_options(parser, graphs=True)
    add("--out", type=str | None, metavar="FILE.json", help="also write all figures there")
    return parser


def parse(arguments: Sequence[str]) -> Namespace:
    """Options from a command line, checked as far as they do not depend on the models.

    Returns:
        The options; ``batch_size`` is a list of ints or "auto", ``acceptance`` None or a list of rates,
        ``random_weights`` None or a list of sizes, target first.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    others, arms = split_arguments(arguments)
    try:
        options = build_parser().parse_args(config_first(others))
    except ArgumentError as error:
        raise ValueError(str(error)) from None
    options.strategy = arms or options.strategy or ARMS
    reseeded = [name for name, arm in options.strategy.items() if isinstance(arm, dict) and arm.get("reseed")]
    if reseeded:
        raise ValueError(f"strategy {reseeded[0]!r}: reseed: expected none, a benchmark compares the same seeds")
    check_models(options)
    options.batch_size = _batch_sizes(options.batch_size)
    options.acceptance = parse_rates(options.acceptance)
    _check_choices(options)
    _check_numbers(options)
    _check_original(options)
    if options.out is not None and (
        not options.out.endswith(".json") or not Path(options.out).absolute().parent.is_dir()
    ):
        raise ValueError(f"out: expected a .json file in a folder that exists, got {options.out!r}")
    return options


def check_models(options: Namespace) -> None:
    """Fills in the bundled pair where no models are named, makes ``random_weights`` a list; ValueError for several."""
    files = [name for name in ("draft", "target", "tokenizer") if options[name] is not None]
    given = [name for name in ("pair", "random_weights") if options[name] is not None]
    if len(given) + bool(files) > 1 or 0 < len(files) < 3:
        raise ValueError(
            "expected one of --pair, --random_weights, or --draft, --target and --tokenizer together; got "
            + ", ".join(f"--{name}" for name in (*given, *files))
        )
    if not given and not files:
        options.pair = "tiny"
    if options.random_weights is not None:
        options.random_weights = _random(options.random_weights)


def _random(given: str) -> list[str]:
    sizes = given.replace(" ", "").split(",")
    if len(sizes) > 2 or any(size not in RANDOM for size in sizes):
        raise ValueError(f"random_weights: expected TARGET or TARGET,DRAFT of {', '.join(RANDOM)}, got {given!r}")
    if len(sizes) == 2 and ("d36" in sizes) != (sizes == ["d36", "d36"]):
        raise ValueError(f"random_weights: d36 makes images of 512 px, the others of 256; got {given!r}")
    return sizes


def _batch_sizes(given: Any) -> list[int] | str:
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


def parse_rates(given: str | None) -> list[float] | None:
    """The rates of ``--acceptance simulated:RATES``; ValueError if they are none."""
    if given is None:
        return None
    expected = f"acceptance: expected {SIMULATED}RATES with probabilities such as 1,1,0.5,0, got {given!r}"
    if not given.startswith(SIMULATED):
        raise ValueError(expected)
    try:
        rates = [float(part) for part in given.removeprefix(SIMULATED).split(",")]
    except ValueError:
        raise ValueError(expected) from None
    if not all(0 <= rate <= 1 for rate in rates):
        raise ValueError(expected)
    return rates


def _check_choices(options: Namespace) -> None:
    choices = {
        "accelerator": ("auto", "cpu", "cuda", "gpu"),
        "precision": PRECISIONS,
    }
    for name, allowed in choices.items():
        if options[name] not in allowed:
            named = ", ".join(str(value) for value in allowed if value not in (None, "gpu"))
            raise ValueError(f"{name}: expected one of {named}, got {options[name]!r}")
    check_engine_options(options)


def _check_original(options: Namespace) -> None:
    if options.original is None:
        return
    if not (Path(options.original) / "models" / "__init__.py").is_file():
        raise ValueError(
            f"original: expected a checkout of the VAR code with a package 'models' in it, got {options.original!r}"
        )
    if not options.images:
        raise ValueError("images: expected true with --original, which always makes them, got false")
    if options.precision == "64-true":
        raise ValueError("precision: expected 32-true, bf16-true or 16-true with --original, got '64-true'")


def _check_numbers(options: Namespace) -> None:
    for name in ("warmup", "repeats"):
        if options[name] < 1:
            raise ValueError(f"{name}: expected an int >= 1, got {options[name]}")
    check_threads(options)


def check_threads(options: Namespace) -> None:
    """Fills in the cores there are where no ``threads`` are given; ValueError if they are fewer than 1."""
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"threads: expected an int >= 1, got {options.threads}")
    if options.threads is None:
        options.threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
