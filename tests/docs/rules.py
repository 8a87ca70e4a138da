"""How a documented command is tested: parsed by its own parser always, and run small or, where said here, not run.

A command is a module with `parse(arguments)` or `build_parser()`; those of the script `sdvar` are in its own table.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from unittest.mock import patch

from jsonargparse import auto_parser

from eval.cli.main import COMMANDS
from lightning_modules import lightning_command
from lightning_modules.distilling import options as distilling
from tests.docs.documents import ROOT
from tests.docs.workplace import DRAFT, TARGET, TOKENIZER
from tests.eval.report.browser import CHROMIUM

SHELL_LINES = (
    "source .venv/bin/activate",
    "pre-commit install --hook-type pre-commit --hook-type pre-push",
    "status=$?",
    "[ $status -eq 143 ] && scontrol requeue $SLURM_JOB_ID",
    "[ $status -eq 0 ] || exit $status",
)
PLACEHOLDERS = {
    "--draft … --target … --tokenizer …": f"--draft {DRAFT} --target {TARGET} --tokenizer {TOKENIZER}",
    "/shared/": "shared/",
}

# what makes a command small, by module: an option given twice has its last value
_RUN = "--images_per_class 1 --batch_size 2 --threads 1 --devices 1 --num_nodes 1 --accelerator cpu"
SMALL = {
    "eval.fid": _RUN,
    "eval.sweep": _RUN,
    "eval.verify": "--images 2",
    "eval.tokens": "--images 2 --devices 1 --threads 1 --accelerator cpu",
    "eval.benchmark": "--batch_size 1 --warmup 1 --repeats 1 --threads 1 --accelerator cpu",
    "eval.benchmark_loading": "--depth 2",
    "eval.benchmark_writer": "--images 4 --batch_size 2 --side 32",
    "eval.plan": "--batch_size 2 --images 2 --seconds 1 --threads 1 --accelerator cpu --overwrite",
    "examples.compare": "--B 1 --device cpu",
    "sdvar.selftest.__main__": "--device cpu",
    "lightning_modules.__main__": "--data.images_per_class 1 --trainer.devices 1",
}
# what else is changed in a command that is run, and why
CHANGED = (
    (r"--labels 0-999", "--labels 0,999"),
    (r"(fid(?:\.py)? --draft (?!target:)(?!.*--labels).*)", r"\1 --labels 0,999"),  # all would be a thousand images
    (r"--feature_extractor inception-v3-compat\S*", ""),  # Inception's weights are not in the repository
    (r"(.*)--feature_extractor_weights \S+(.*)", r"\1\2 --feature_extractor fashion-mnist-128"),
    (r"--random_weights \S+", "--pair tiny"),  # the released sizes take minutes and gigabytes
    (r"\bd16 ", f"{DRAFT} "),  # short for a file on the hub
    (
        r"(predict_imagenet.yaml)",  # takes those too, all classes, on a GPU
        rf"\1 --model.pair.draft {DRAFT} --model.pair.target {TARGET} --model.pair.tokenizer {TOKENIZER} "
        "--model.precision 32-true --data.labels 0,999 --trainer.accelerator cpu",
    ),
    (r"(measure(?:\.py)? --out runs/predict_imagenet)", r"\1 --feature_extractor fashion-mnist-128"),
)
NOT_RUN = {
    r"sweep_imagenet": "takes released models of four sizes; tests/eval/cli/test_grid.py checks its points",
    r"verify(\.py)? claim\.json": "needs another's claim; tests/eval/test_verify.py makes some",
    r"--original ": "needs a checkout of the original code; tests/eval/test_benchmark.py has a stand-in",
    r"first_contact": "needs a GPU; tests/eval/contact/ runs it on a simulated one",
    r"-m lightning_modules fit": "trains for minutes; tests/lightning_modules/test_commands.py trains one part",
    r"(lightning_modules|main) distil": "trains for minutes; tests/lightning_modules/distilling/ trains small ones",
    r"convert runs/tail/": "converts what such a training made; tests/sdvar/checkpoints/ converts others",
    r"tokens(\.py)? --encode": "takes images of a user's own; tests/eval/tokens/ has some",
    r"-m lightning_modules.training.export_weights": "writes over the shipped files what such a training made",
    r"-m eval.metrics.features.bundled": "writes over a shipped file, which test_cache.py checks",
}
if CHROMIUM is None:
    NOT_RUN[r"docs/report_picture\.py"] = "needs a Chromium on the PATH"


def words_of(text: str) -> list[str]:
    """The words of a command without `python` or a launcher, and `make fid` as the command that it is.

    Returns:
        an empty list for known lines that run no command of ours.
    """
    for placeholder, meaning in PLACEHOLDERS.items():
        text = text.replace(placeholder, meaning)
    if text in SHELL_LINES:
        return []
    words = shlex.split(text)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"no target {words[1]}"
        arguments = [part for word in words[2:] for part in shlex.split(word.removeprefix("ARGS="))]
        return ["eval/fid.py", *arguments] if words[1] == "fid" else []
    if words[0] == "torchrun":
        script = next(number for number, word in enumerate(words) if word.endswith(".py"))
        return words[script:]
    words = words[1:] if words[0] == "srun" else words
    if words[0] == "sdvar":
        return ["-m", "eval.cli.main", *words[1:]]
    assert words[0] == "python", f"no rule for {words[0]!r}; see tests/docs/rules.py"
    if words[1:3] == ["-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[3:])
        return []
    return words[1:]


def module_of(words: Sequence[str]) -> tuple[str, list[str]]:
    """The module that a command runs, and its arguments."""
    name, *arguments = words[1:] if words[0] == "-m" else words
    if name == "eval.cli.main":
        assert arguments[0] in COMMANDS or arguments[0].startswith("--"), f"sdvar has no command {arguments[0]}"
        command = COMMANDS.get(arguments[0])
        return (command.module, [*command.words, *arguments[1:]]) if command else (name, arguments)
    if words[0] == "-m":
        name += ".__main__" if (spec := find_spec(name)) and spec.submodule_search_locations else ""
    else:
        assert (ROOT / name).is_file(), f"no file {name}"
        name = name.removesuffix(".py").replace("/", ".")
    return name, arguments


def parse(words: Sequence[str]) -> None:
    """Parses a command by its own parser; SystemExit or ValueError if it does not understand a word of it."""
    name, arguments = module_of(words)
    module = import_module(name)
    if name.startswith("docs."):  # scripts of two paths, without options
        assert len(arguments) == 2 and not any(argument.startswith("-") for argument in arguments)
    elif name == "eval.cli.main":
        module.main(arguments)
    elif name == "eval.metrics.features.bundled":
        assert not arguments
    elif name == "lightning_modules.training.export_weights":  # its parser is made of its functions
        auto_parser([module.weights, module.test_images]).parse_args(arguments)
    elif name == "lightning_modules.__main__" and arguments[:1] == ["distil"]:
        distilling.parse(arguments[1:])
    elif name == "lightning_modules.__main__":  # Lightning parses and runs in one
        runs = [
            patch.object(lightning_command.CommandLine, method) for method in ("instantiate_classes", "_run_subcommand")
        ]
        with patch.object(sys, "argv", ["command"]), runs[0], runs[1]:
            module.main(arguments)
    elif hasattr(module, "parse"):
        if name == "eval.plan":
            arguments = [*arguments, "--overwrite"]  # plan.yaml is there for the commands that read it
        with patch("eval.cli.options.check_launcher"):  # srun and torchrun are left out here
            module.parse(arguments)
    else:
        module.build_parser().parse_args(arguments)


def small(text: str) -> list[str] | None:
    """The words that run a documented command at a small size; None if it is not run."""
    words = words_of(text)
    if not words or any(re.search(pattern, shlex.join(words)) for pattern in NOT_RUN):
        return None
    line = shlex.join([*words, *SMALL.get(module_of(words)[0], "").split()])
    for pattern, replacement in CHANGED:
        line = re.sub(pattern, replacement, line)
    return shlex.split(line)
