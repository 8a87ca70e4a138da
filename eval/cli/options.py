"""The options of `eval/fid.py`: on the command line, in a config file, and what is taken where nothing is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace

import sdvar
from eval.cli import groups
from eval.cli.arms import NOISE_FLOOR, RESEEDED, default_arms
from eval.cli.groups import Options
from eval.cli.measuring import add_measuring
from eval.cli.precision import precision_of
from eval.metrics import registry
from eval.metrics.features import extractors, networks, published
from eval.metrics.images import formats
from eval.metrics.pairing.perceptual import PERCEPTUAL, check_weights
from lightning_modules.arms.arm import build_arms
from lightning_modules.data.class_lists import read_class_list
from lightning_modules.options.command_line import ArgumentParser, Nodes
from lightning_modules.processes.devices import count, read_devices
from lightning_modules.processes.launcher import check_launcher
from sdvar.system.command_line import check_folder

# What a run takes where nothing is given: on a bundled pair, and on checkpoints of the user's own.
BUNDLED_DEFAULTS = {
    "images_per_class": 100,
    "reference": formats.BUNDLED,
    "feature_extractor": extractors.BUNDLED_EXTRACTOR,
}
OTHER_DEFAULTS = {"images_per_class": 50, "reference": None, "feature_extractor": published.INCEPTION}

DESCRIPTION = """Decode images with a baseline and any number of speculative strategies, measure them, write a report.

Without options: the bundled pair, in minutes. The same command again continues a run that was interrupted. Every option
is also a key of a config file."""

EXAMPLES = """examples:
  python eval/fid.py                                         # the bundled pair: images, metrics, runs/fid/report.html
  python eval/fid.py --images_per_class 2 --out runs/try     # the same in seconds
  python eval/fid.py --config configs/fid_tiny.yaml --seed 1 --out runs/seed_1
  python eval/fid.py --draft var_d16.pth --target var_d30.pth --tokenizer vae_ch160v4096z32.pth \\
      --strategy fast=Speculative --strategy.gamma 3 --strategy.acceptance Match --strategy.acceptance.tau 0.5 \\
      --devices 8 --metrics none --out runs/imagenet"""


def build_parser(prog: str = "eval/fid.py", description: str = DESCRIPTION, examples: str = EXAMPLES) -> ArgumentParser:
    """The command line of `eval/fid.py`; every option is also a key of the config file.

    Args:
        prog, description, examples: of another command that takes these options and more.
    """
    parser = ArgumentParser(prog=prog, description=description, epilog=examples)
    add = parser.add_argument
    groups.add_models(parser)
    add(
        "--strategy",
        type=dict | None,
        metavar="[NAME=]CLASS",
        help="an arm beside the baseline, in place of the default arms; repeatable, its parameters follow it: "
        "--strategy fast=Speculative --strategy.gamma 2 --strategy.acceptance Match --strategy.acceptance.tau 0.5; "
        'or with its arguments: "Speculative(gamma=Spans((3, 1, 1, 1)))"; --strategy.help lists them; '
        "gamma auto, the default, measures what is fastest before the run (docs/planning.md); "
        "--strategy.reseed true decodes it with other seeds, --strategy.draft FILE with another draft, "
        "a checkpoint or target:int8 as for --draft, "
        "--strategy.sampling.top_k 600 with other sampling. In a config: a mapping NAME: {class_path, init_args, "
        "reseed, draft, sampling}",
    )
    groups.add_sampling(parser)
    add(
        "--labels",
        type=int | list[int | str] | str | None,
        help="0-9, or 1,5,7, or names or WordNet ids of ImageNet classes, or a file: text with one per line, or .csv, "
        ".parquet, .json, .jsonl with the column label; with seed or index it gives exactly its images (all classes)",
    )
    add("--noise_floor", type=bool, default=False, help="add the arm baseline_reseeded, the baseline with other seeds")
    add("--images_per_class", type=int | None, help="images per label and arm (bundled 100, own 50)")
    add("--seed", type=int, default=0, help="the run's seed")
    add("--batch_size", type=int, default=50, help="images decoded together")
    add(
        "--devices",
        type=int | list[int] | str,
        default=1,
        help="processes on this node, each with its device; or auto, every GPU; or the numbers of GPUs, 0,1",
    )
    add("--num_nodes", type=Nodes, default=1, help="nodes")
    groups.add_engine(parser, graphs=False)
    add_measuring(parser)
    add("--out", type=str, default="runs/fid", help="the run's folder")
    add("--overwrite", type=bool, default=False, help="remove an earlier run in that folder instead of continuing it")
    add("--quiet", type=bool, default=False, help="no progress line; without a terminal there is none anyway")
    return parser


def parse(arguments: Sequence[str]) -> Options:
    """Options from a command line, complete as far as they do not depend on the models.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    given, arms = groups.read(build_parser(), arguments)
    return complete(given, arms or given.strategy)


def complete(given: Namespace, strategy: dict[str, Any] | None) -> Options:
    """Options with the defaults that do not depend on the models where nothing is given.

    Args:
        given: as they are parsed.
        strategy: the arms by name; None for the default ones.

    Raises:
        ValueError: with one line that says which option is wrong.
    """
    check_folder(given.out)
    devices = read_devices(given.devices, given.accelerator)
    check_launcher(count(devices), given.num_nodes)
    defaults = OTHER_DEFAULTS if given.target else BUNDLED_DEFAULTS
    completed = {name: value for name, value in defaults.items() if given[name] is None}
    if _gives_images(given):
        completed.pop("images_per_class", None)
    if given.reference is not None:
        completed["reference"] = formats.given(given.reference)
    completed["strategy"] = _arms(strategy, given.noise_floor)
    completed["metrics"] = parse_metrics(given.metrics, given.lpips_weights)
    extractor = completed.get("feature_extractor", given.feature_extractor)
    networks.parse_networks(extractor, given.feature_extractor_weights)
    # threads are a setting of the run: given by hand they stay, whatever the number of devices
    kept = None if given.overwrite else precision_of(given.out)
    return groups.complete(given, count(devices), kept, devices=devices, **completed)


def parse_metrics(given: str | list[str], lpips_weights: str | None) -> list[str]:
    """The metrics, with LPIPS where its weights are given.

    Raises:
        ValueError: a name is unknown, or the weights of LPIPS are missing.
    """
    metrics = registry.parse_metrics(given)
    if lpips_weights and metrics and PERCEPTUAL.name not in metrics:
        metrics.append(PERCEPTUAL.name)
    if PERCEPTUAL.name in metrics:
        check_weights(lpips_weights)
    return metrics


def _gives_images(given: Namespace) -> bool:
    """Whether the labels are a file that gives the images one by one, of which there are no repeats."""
    if given.labels is None or not read_class_list(given.labels).fixed:
        return False
    if given.repeats > 1:
        reason = f"{given.labels} gives the images one by one (column seed or index)"
        raise ValueError(f"repeats: {reason}; expected 1, got {given.repeats}")
    return True


def _arms(strategy: dict[str, Any] | None, noise_floor: bool) -> dict[str, Any] | None:
    """The arms by name, with the baseline with other seeds where it is asked for; None for the default ones."""
    if strategy is None or not noise_floor:
        return strategy
    floor = strategy.get(NOISE_FLOOR, RESEEDED)
    if not (isinstance(floor, dict) and floor.get("reseed")):
        raise ValueError(f"--noise_floor: another arm is called {NOISE_FLOOR!r}; give that one another name")
    return {**strategy, NOISE_FLOOR: floor}


def as_config(options: Namespace, **resolved: Any) -> dict[str, Any]:
    """The options as a config file states them: plain values, without those that belong to one call alone.

    Args:
        options: of the command.
        resolved: values in place of some of them.
    """
    return groups.plain_options(options, **{"reference": options.reference or "none"} | resolved)


def effective_config(options: Namespace) -> dict[str, Any]:
    """The same with every argument of every arm, and with the classes of a bundled pair: what a run would store."""
    pair = sdvar.load_pair(options.pair) if options.pair else None
    arms = default_arms(len(pair.pyramid), options.pair) if options.strategy is None and pair else options.strategy
    resolved: dict[str, Any] = {}
    if arms is not None:  # the default ones depend on the models
        built = build_arms(arms, sdvar.Sampling(**options.sampling.as_dict()))
        resolved["strategy"] = {arm.name: arm.config() for arm in built}
    if options.labels is None and pair:
        resolved["labels"] = f"0-{pair.num_classes - 1}"
    return as_config(options, **resolved)
