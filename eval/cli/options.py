"""The options of `eval/fid.py`: on the command line, in a config file, and what is taken where none is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentError, Namespace

from eval.cli.arms import DEFAULT_ARMS, split_arguments
from eval.cli.engine_options import add_engine_options, check_engine_options
from eval.cli.launcher import check_launcher
from eval.metrics import networks, registry
from eval.metrics.images import formats
from lightning_modules.command_line import ArgumentParser
from lightning_modules.data.class_lists import read_class_list
from lightning_modules.run.write_pool import available_cores

NOISE_FLOOR = "baseline_reseeded"
# those of lightning_modules.pair_source, which --help should not import torch for
PRECISIONS = ("64-true", "32-true", "bf16-true", "16-true")
MODELS = {"draft": "the small VAR", "target": "the large VAR", "tokenizer": "the VQVAE of both"}

# What a run takes where nothing is given: on a bundled pair, and on checkpoints of the user's own.
BUNDLED_DEFAULTS = {
    "sampling": {"cfg": 1.5, "top_k": 60, "top_p": 0.0, "temperature": 1.0},
    "images_per_class": 100,
    "reference": formats.BUNDLED,
    "feature_extractor": networks.BUNDLED_EXTRACTOR,
}
OTHER_DEFAULTS = {
    "sampling": {"cfg": 1.5, "top_k": 900, "top_p": 0.96, "temperature": 1.0},  # those of the released ImageNet models
    "images_per_class": 50,
    "reference": None,
    "feature_extractor": networks.INCEPTION,
}

DESCRIPTION = """Decode images with a baseline and any number of speculative strategies, measure them, write a report.

Without options: the bundled pair, in minutes. The same command again continues a run that was interrupted. Every option
is also a key of a config file."""

EXAMPLES = """examples:
  python eval/fid.py                                         # the bundled pair: images, figures, runs/fid/report.html
  python eval/fid.py --images_per_class 2 --out runs/try     # the same in seconds
  python eval/fid.py --config configs/fid_tiny.yaml --seed 1 --out runs/seed_1
  python eval/fid.py --draft var_d16.pth --target var_d30.pth --tokenizer vae_ch160v4096z32.pth \\
      --strategy fast=Speculative --strategy.gamma 3 --strategy.acceptance Match --strategy.acceptance.tau 0.5 \\
      --devices 8 --metrics none --out runs/imagenet"""

# also those of eval/measure.py
REPEATS_HELP = "decode this many times the images, with other seeds each time, and report mean and range of the figures"
EXTRACTOR_HELP = "fashion-mnist-128 (bundled), inception-v3-compat (own), or another that torch-fidelity registers"


def build_parser(prog: str = "eval/fid.py", description: str = DESCRIPTION, examples: str = EXAMPLES) -> ArgumentParser:
    """The command line of `eval/fid.py`; every option is also a key of the config file.

    Args:
        prog, description, examples: of another command that takes these options and more.
    """
    parser = ArgumentParser(prog=prog, description=description, epilog=examples)
    add = parser.add_argument
    add("--config", action="config", help="YAML file of options; the command line's win over it")
    add("--pair", type=str | None, help="a bundled pair of models (tiny)")
    for name, what in MODELS.items():
        add(f"--{name}", type=str | None, help=f"a checkpoint of your own (file or hf://OWNER/REPO/FILE): {what}")
    add(
        "--strategy",
        type=dict | None,
        metavar="[NAME=]CLASS",
        help="an arm beside the baseline, instead of the default ones; repeatable, its parameters follow it: "
        "--strategy fast=Speculative --strategy.gamma 2 --strategy.acceptance Match --strategy.acceptance.tau 0.5; "
        "--strategy.reseed true decodes it with other seeds, --strategy.draft FILE with another draft, "
        "--strategy.sampling.top_k 600 with other sampling. In a config: a mapping NAME: {class_path, init_args, "
        "reseed, draft, sampling}",
    )
    add_sampling_options(parser)
    add(
        "--labels",
        type=int | list[int | str] | str | None,
        help="0-9, or 1,5,7, or names of ImageNet classes, or a file: text with one a line, or .csv, .parquet, .json, "
        ".jsonl with the column label; with seed or index it gives exactly its images (all classes)",
    )
    add("--noise_floor", action="store_true", help="add the arm baseline_reseeded, the baseline with other seeds")
    add("--images_per_class", type=int | None, help="images for each label and arm (bundled 100, own 50)")
    add("--repeats", type=int, default=1, help=REPEATS_HELP)
    add("--seed", type=int, default=0, help="the run's seed")
    add("--batch_size", type=int, default=50, help="images decoded together")
    add("--threads", type=int | None, help="CPU threads of a process (the cores there are, shared by the processes)")
    add("--devices", type=int, default=1, help="processes on this node, each with its device")
    add("--num_nodes", type=int, default=1, help="nodes")
    add("--accelerator", type=str, default="auto", help="auto, cpu or cuda")
    add("--precision", type=str, default="32-true", help=", ".join(PRECISIONS))
    add_engine_options(parser, graphs=False)
    add("--tf32", type=bool, default=False, help="let a GPU round the factors of float32 products to TF32 (false)")
    add("--reference", type=str | None, help=formats.HELP)
    add("--metrics", type=list[str] | str, default=registry.DEFAULTS, help=registry.HELP)
    add("--feature_extractor", type=str | None, help=EXTRACTOR_HELP)
    add("--feature_extractor_weights", type=str | None, help="its weights file, where they should not be downloaded")
    add("--out", type=str, default="runs/fid", help="the run's folder")
    add("--overwrite", action="store_true", help="remove an earlier run in that folder instead of continuing it")
    add("--quiet", action="store_true", help="no progress line; there is none either where stderr is not a terminal")
    return parser


def parse(arguments: Sequence[str]) -> Namespace:
    """Options from a command line, with the defaults filled in that do not depend on the models.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    options, arms = read_arguments(arguments, build_parser())
    if arms:
        options.strategy = arms
    fill_in(options)
    return options


def add_sampling_options(parser: ArgumentParser) -> None:
    """Adds guidance, filters and temperature; the defaults depend on the models."""
    add = parser.add_argument
    add("--sampling.cfg", type=float | None, help="guidance, 0 is off (1.5)")
    add("--sampling.top_k", type=int | None, help="keep the k best tokens, 0 is off (bundled 60, own 900)")
    add("--sampling.top_p", type=float | None, help="keep the likeliest tokens up to this mass, 0 is off (own 0.96)")
    add(
        "--sampling.temperature",
        type=float | list[float] | str | None,
        help="divides the logits before the filters (1.0): a number, or one a scale, 1.1,1.1,1.1,1.0,1.0,1.0",
    )


def read_arguments(arguments: Sequence[str], parser: ArgumentParser) -> tuple[Namespace, dict[str, dict[str, Any]]]:
    """Options as they are given, and the arms of the command line.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    others, arms = split_arguments(arguments)
    try:
        return parser.parse_args(config_first(others)), arms
    except ArgumentError as error:
        raise ValueError(str(error)) from None


def config_first(arguments: list[str]) -> list[str]:
    """Moves ``--config`` to the front: what stands on the command line wins, wherever it stands."""
    first, others = [], []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--config":
            first += [argument, *(value for value in [next(rest, None)] if value is not None)]
        else:
            (first if argument.startswith("--config=") else others).append(argument)
    return first + others


def fill_in(options: Namespace) -> None:
    """Puts the defaults that do not depend on the models where nothing is given.

    Raises:
        ValueError: with one line that says which option is wrong.
    """
    own = {name: options[name] for name in ("draft", "target", "tokenizer") if options[name] is not None}
    if own and (options.pair or len(own) < 3):
        given = ", ".join(f"--{name}" for name in (*(["pair"] if options.pair else []), *own))
        raise ValueError(f"expected --pair, or --draft, --target and --tokenizer together; got {given}")
    if not own:
        options.pair = options.pair or "tiny"
    defaults = OTHER_DEFAULTS if own else BUNDLED_DEFAULTS
    if _gives_images(options):
        defaults = {name: value for name, value in defaults.items() if name != "images_per_class"}
    for name, value in defaults.items():
        for key, default in (value if isinstance(value, dict) else {None: value}).items():
            key = f"{name}.{key}" if key else name
            if options[key] is None:
                options[key] = default
    options.sampling.temperature = parse_temperature(options.sampling.temperature)
    if options.strategy is None:
        options.strategy = DEFAULT_ARMS
    if options.noise_floor:
        options.strategy = _with_noise_floor(options.strategy)
    options.reference = None if options.reference == "none" else options.reference
    options.metrics = registry.parse_metrics(options.metrics)
    parse_repeats(options.repeats)
    _check(options)


def _gives_images(options: Namespace) -> bool:
    """Whether the labels are a file that gives the images one by one, of which there are no repeats."""
    if options.labels is None or not read_class_list(options.labels).fixed:
        return False
    if options.repeats > 1:
        raise ValueError(
            f"repeats: {options.labels} gives the images one by one (column seed or index); expected 1, got "
            f"{options.repeats}"
        )
    return True


def _with_noise_floor(strategy: dict[str, Any]) -> dict[str, Any]:
    """The arms, the baseline with other seeds among them."""
    floor = DEFAULT_ARMS[NOISE_FLOOR]
    if NOISE_FLOOR in strategy and not strategy[NOISE_FLOOR].get("reseed"):
        raise ValueError(f"--noise_floor: another arm is called {NOISE_FLOOR!r}; give that one another name")
    return {**strategy, **({} if NOISE_FLOOR in strategy else {NOISE_FLOOR: floor})}


def parse_temperature(given: float | list[float] | str) -> float | list[float]:
    """A temperature from what a user writes: a number, a list, or a text with commas.

    Raises:
        ValueError: the text holds something else than numbers.
    """
    if not isinstance(given, str):
        return given
    try:
        return [float(number) for number in given.split(",")]
    except ValueError:
        raise ValueError(
            f"sampling.temperature: expected a number, or one a scale such as 1.1,1.1,1.0; got {given!r}"
        ) from None


def parse_repeats(repeats: int) -> int:
    """The number of repeats; ValueError below 1."""
    if repeats < 1:
        raise ValueError(f"repeats: expected an int >= 1, got {repeats}")
    return repeats


def _check(options: Namespace) -> None:
    if options.accelerator not in ("auto", "cpu", "cuda", "gpu"):
        raise ValueError(f"accelerator: expected auto, cpu or cuda, got {options.accelerator!r}")
    for name in ("devices", "num_nodes", "threads"):
        if options[name] is not None and options[name] < 1:
            raise ValueError(f"{name}: expected an int >= 1, got {options[name]}")
    check_engine_options(options)
    check_launcher(options.devices, options.num_nodes)
    if options.threads is None:  # a setting of the run: given by hand it stays, whatever the number of devices
        options.threads = max(1, available_cores() // options.devices)


def as_config(options: Namespace, **resolved: Any) -> dict[str, Any]:
    """The options as a config file states them: plain values, without those that belong to one call alone.

    Args:
        options: of the command.
        resolved: values in place of some of them.
    """
    config = options.as_dict() | resolved
    for name in ("config", "overwrite", "quiet"):
        config.pop(name, None)
    config["reference"] = config["reference"] or "none"
    return {key: value for key, value in config.items() if value is not None}
