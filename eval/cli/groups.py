"""Groups of options that commands share, with what is taken where nothing is given; and options once complete."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any, Literal, NoReturn

from jsonargparse import ArgumentError, Namespace

from eval.cli.arms import split_arguments
from eval.cli.precision import resolve
from lightning_modules.options import plain_yaml
from lightning_modules.options.command_line import ArgumentParser, Threads, number
from lightning_modules.options.sampling import BUNDLED_SAMPLING, RELEASED_SAMPLING, complete_sampling, in_long_form
from lightning_modules.options.sampling import add_sampling as add_sampling
from lightning_modules.pair_source import PRECISIONS
from lightning_modules.run.formats.records import check_recordable
from lightning_modules.write_pool import default_threads
from sdvar import Engine
from sdvar.drafts import of_target
from sdvar.engine import TOKENIZER_DTYPES
from sdvar.models.dtypes import AUTO
from sdvar.models.layers.attention import KERNELS
from sdvar.models.running.class_prefix import MOST_BYTES

Bytes = number("int from 0 to 10^15", int, (">=", 0), ("<=", 10**15))

MODELS = {"draft": "the small VAR", "target": "the large VAR", "tokenizer": "the VQVAE of both"}
ENGINE = tuple(field.name for field in dataclasses.fields(Engine))
HELP, PRINT = "--strategy.help", "--print_config"
BELONGS = {  # keys of configs of other commands
    "grid": "the config of a sweep: python eval/sweep.py --config FILE",
    **dict.fromkeys(
        ("model", "data", "trainer", "return_predictions"),
        "a config of Lightning's commands: python -m lightning_modules predict --config FILE",
    ),
    "sdvar_run": "a run's settings.yaml: give the config.yaml beside it",
}


class Options(Namespace):
    """The options of a command, complete: they do not change any more.

    Args:
        given: as the parser returns them.
        completed: values in place of some of them.
    """

    def __init__(self, given: Namespace, **completed: Any) -> None:
        self.__dict__.update({name: _plain(value) for name, value in (vars(given) | completed).items()})

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{name}: options do not change once they are complete")


def _plain(value: Any) -> Any:
    """A number without the type that checked it, which YAML cannot write."""
    return next((kind(value) for kind in (int, float) if isinstance(value, kind) and type(value) is not bool), value)


def read(parser: ArgumentParser, arguments: Sequence[str]) -> tuple[Namespace, dict[str, dict[str, Any]]]:
    """Options as they are given, and the arms of the command line.

    Raises:
        ValueError: with one line that says what is wrong.
        SystemExit: after --help or --strategy.help.
    """
    if HELP in (word.partition("=")[0] for word in arguments):
        from eval.cli.strategy_help import describe

        print(describe())
        raise SystemExit(0)
    others, arms = split_arguments(arguments)
    configs, rest = [], []
    for before, word in zip(("", *others), others):  # config files come first, so that the command line wins
        (configs if "--config" in (before, word.partition("=")[0]) else rest).append(in_long_form(word))
    try:
        return parser.parse_args(configs + rest), arms
    except ArgumentError as error:
        key = re.match(r"unknown key (\w+)", str(error))
        belongs = f"config: {key[1]} belongs to {BELONGS[key[1]]}" if key and key[1] in BELONGS else error
        raise ValueError(str(belongs)) from None


def plain_options(options: Namespace, **resolved: Any) -> dict[str, Any]:
    """The options as a config file states them: plain values, without those that belong to one call alone.

    Args:
        options: of the command.
        resolved: values in place of some of them.
    """
    of_one_call = ("config", "overwrite", "quiet")
    config = options.as_dict() | resolved
    return {name: value for name, value in config.items() if value is not None and name not in of_one_call}


def parsed(
    arguments: Sequence[str] | None,
    parse: Callable[[Sequence[str]], Options],
    effective: Callable[[Namespace], dict[str, Any]] = plain_options,
) -> Options | None:
    """The options of a command line; None where --print_config asks for the config that it stands for, printed here.

    Args:
        arguments: the command line; None for that of this process.
        parse: of the command.
        effective: its options as a config states them, with all defaults.
    """
    given = sys.argv[1:] if arguments is None else arguments
    rest = [word for word in given if word.partition("=")[0] != PRINT]
    if len(rest) == len(given):
        return parse(given)
    with redirect_stdout(sys.stderr):  # what is said of a choice is not part of the config
        config = plain_yaml.dump(effective(parse(rest)))
    print(config, end="")
    return None


def complete(given: Namespace, processes: int = 1, kept_precision: str | None = None, **completed: Any) -> Options:
    """The options with what is taken where no models, sampling or threads are given.

    Args:
        given: as they are parsed; the command has added the groups of models, sampling and engine.
        processes: that share the cores.
        kept_precision: of the run that is continued, which "auto" stands for; None without one.
        completed: values in place of some of the others.

    Raises:
        ValueError: with one line that says which option is wrong.
    """
    pair = _pair(given)
    sampling = complete_sampling(given.sampling, BUNDLED_SAMPLING if pair else RELEASED_SAMPLING)
    options = Options(
        given,
        pair=pair,
        sampling=Options(Namespace(**sampling)),
        threads=given.threads or default_threads(processes),
        precision=resolve(given.precision, given.accelerator, kept_precision),
        **completed,
    )
    check_recordable(plain_options(options))
    return options


def _pair(given: Namespace) -> str | None:
    """The bundled pair: that which is given, or the only one where no models are. A draft of the target fits any."""
    alone = [name for name in ("pair", "random_weights") if name in given]
    named = [name for name in alone if given[name] is not None]
    files = [name for name in MODELS if given[name] is not None]
    if files == ["draft"] and of_target(given.draft):
        files = []
    if len(named) + bool(files) > 1 or 0 < len(files) < len(MODELS):
        allowed = ", ".join(f"--{name}" for name in alone)
        got = ", ".join(f"--{name}" for name in (*named, *files))
        raise ValueError(f"expected {allowed}, or --draft, --target and --tokenizer together; got {got}")
    return given.pair if named or files else "tiny"


def add_models(parser: ArgumentParser) -> None:
    """Adds the config file and the pair."""
    parser.add_argument("--config", action="config", help="YAML file of options; the command line overrides it")
    parser.add_argument("--pair", type=str | None, help="a bundled pair of models (tiny)")
    for name, what in MODELS.items():
        text = f"a checkpoint of your own instead (file or hf://OWNER/REPO/FILE): {what}"
        if name == "draft":
            text += "; or made of the target, of any pair: target:int8 and others, see docs/checkpoints.md"
        parser.add_argument(f"--{name}", type=str | None, help=text)


def add_engine(parser: ArgumentParser, graphs: bool) -> None:
    """Adds what says where and how the models run; ``graphs`` is what is taken where --graphs is not given."""
    add = parser.add_argument
    add("--accelerator", type=Literal["auto", "cpu", "cuda", "gpu"], default="auto", help="where the models run")
    add(
        "--precision",
        type=Literal[(*PRECISIONS, AUTO)],
        default="32-true",
        help="of the models; auto is bf16-true where the device multiplies it in hardware, else 32-true; a run that is "
        "continued keeps its own",
    )
    add("--threads", type=Threads | None, help="CPU threads per process (OMP_NUM_THREADS, or its share of the cores)")
    add("--attention", type=Literal[KERNELS], default="auto", help="kernel of all attention")
    add("--graphs", type=bool, default=graphs, help="replay passes as CUDA graphs; a CPU has none")
    add(
        "--tokenizer_dtype",
        type=Literal[TOKENIZER_DTYPES] | None,
        help=f"of the tokenizer's decoder: {', '.join(TOKENIZER_DTYPES)} (float16 on a GPU, else as loaded)",
    )
    add(
        "--prefix_bytes",
        type=Bytes,
        default=MOST_BYTES,
        help="memory per model for what it makes of a class before any token; 0 keeps nothing",
    )
    add("--tf32", type=bool, default=False, help="let a GPU round the factors of float32 products to TF32")


def engine_of(options: Namespace) -> Engine:
    """The engine that the options name."""
    return Engine(**{name: options[name] for name in ENGINE})
