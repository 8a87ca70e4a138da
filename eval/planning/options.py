"""The options of `eval/plan.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentError, Namespace

from eval.benchmarking.options import RANDOM, check_models, check_threads, parse_rates
from eval.cli.engine_options import add_engine_options, check_engine_options
from eval.cli.options import (
    BUNDLED_DEFAULTS,
    MODELS,
    OTHER_DEFAULTS,
    PRECISIONS,
    add_sampling_options,
    config_first,
    parse_temperature,
)
from lightning_modules.command_line import ArgumentParser

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
    add("--config", action="config", help="YAML file of options; the command line's win over it")
    add("--pair", type=str | None, help="a bundled pair of models (tiny)")
    for name, what in MODELS.items():
        add(f"--{name}", type=str | None, help=f"a checkpoint of your own instead: {what}")
    add(
        "--random_weights",
        type=str | None,
        metavar="TARGET,DRAFT",
        help=f"random weights in released sizes instead, of {', '.join(RANDOM)}, with --acceptance; writes no config",
    )
    add("--acceptance", type=str | None, help="simulated:RATES, one a scale such as 1,1,0.5,0 or one for all: drafted "
        "scales stand with these probabilities, whatever they hold")  # fmt: skip
    add("--batch_size", type=int, default=50, help="images decoded together: what is fastest depends on it")
    add(
        "--max_disagreement",
        type=float,
        default=0.0,
        help="share of tokens that may differ from the baseline's, 0 (lossless) to 1",
    )
    add("--images", type=int, default=64, help="images on which agreement is measured")
    add("--seconds", type=float, default=60.0, help="time for measuring costs, and again for comparing the candidates")
    add_sampling_options(parser)
    add("--accelerator", type=str, default="auto", help="auto, cpu or cuda")
    add("--threads", type=int | None, help="CPU threads (the cores there are)")
    add("--precision", type=str, default="32-true", help=", ".join(PRECISIONS))
    add_engine_options(parser, graphs=False)
    add("--out", type=str | None, metavar="FILE.yaml", help=f"where the config for eval/fid.py is written ({OUT})")
    add("--overwrite", action="store_true", help="replace that file if it is there")
    return parser


def parse(arguments: Sequence[str]) -> Namespace:
    """Options from a command line, checked as far as they do not depend on the models.

    Returns:
        The options; ``acceptance`` is None or a list of rates, ``random_weights`` None or a list of sizes, target
        first, ``out`` None where no config can be written.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    try:
        options = build_parser().parse_args(config_first(list(arguments)))
    except ArgumentError as error:
        raise ValueError(str(error)) from None
    check_models(options)
    options.acceptance = parse_rates(options.acceptance)
    defaults = (BUNDLED_DEFAULTS if options.pair else OTHER_DEFAULTS)["sampling"]
    for name, value in defaults.items():
        if options.sampling[name] is None:
            options.sampling[name] = value
    options.sampling.temperature = parse_temperature(options.sampling.temperature)
    _check_numbers(options)
    check_threads(options)
    if options.precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {options.precision!r}")
    if options.accelerator not in ("auto", "cpu", "cuda", "gpu"):
        raise ValueError(f"accelerator: expected auto, cpu or cuda, got {options.accelerator!r}")
    check_engine_options(options)
    _check_simulated(options)
    _check_out(options)
    return options


def _check_numbers(options: Namespace) -> None:
    for name in ("batch_size", "images"):
        if options[name] < 1:
            raise ValueError(f"{name}: expected an int >= 1, got {options[name]}")
    if not 0 < options.seconds < float("inf"):
        raise ValueError(f"seconds: expected a number above 0, got {options.seconds}")
    if not 0 <= options.max_disagreement <= 1:
        raise ValueError(
            "max_disagreement: expected a share of tokens from 0 (lossless) to 1, got " + str(options.max_disagreement)
        )


def _check_simulated(options: Namespace) -> None:
    if options.random_weights and not options.acceptance:
        raise ValueError(
            "random_weights: expected --acceptance simulated:RATES beside it: what random weights agree on says nothing"
        )
    if options.acceptance and options.max_disagreement:
        raise ValueError(
            "max_disagreement: expected 0 with --acceptance simulated:RATES, under which tokens mean nothing; "
            f"got {options.max_disagreement}"
        )


def _check_out(options: Namespace) -> None:
    if options.acceptance:
        if options.out is not None:
            raise ValueError(f"out: expected none with simulated acceptance, which no run has; got {options.out!r}")
        return
    options.out = options.out or OUT
    file = Path(options.out)
    if file.suffix not in (".yaml", ".yml") or not file.absolute().parent.is_dir():
        raise ValueError(f"out: expected a .yaml file in a folder that exists, got {options.out!r}")
    if file.exists() and not options.overwrite:
        raise ValueError(f"out: {options.out!r} exists; --overwrite replaces it, or name another file")
