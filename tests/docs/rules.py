"""How a documented command is tested: parsed by its own parser always, and run small or, where said here, not run.

A new command in a document needs its program in `PARSERS`; a fixed set of them is run for real by `make proof`.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Sequence

import pytest

from tests.docs.documents import ROOT
from tests.docs.workplace import DRAFT, TARGET, TOKENIZER

SHELL_LINES = (
    "source .venv/bin/activate",
    "status=$?",
    "[ $status -eq 143 ] && scontrol requeue $SLURM_JOB_ID",
    "[ $status -eq 0 ] || exit $status",
)
PLACEHOLDERS = {
    "--draft … --target … --tokenizer …": f"--draft {DRAFT} --target {TARGET} --tokenizer {TOKENIZER}",
    "/shared/": "shared/",
}

# what makes a command small, by program: an option given twice has its last value
SMALL = {
    "eval/fid.py": "--images_per_class 1 --batch_size 2 --threads 1 --devices 1 --num_nodes 1 --accelerator cpu",
    "eval/sweep.py": "--images_per_class 1 --batch_size 2 --threads 1 --devices 1 --num_nodes 1 --accelerator cpu",
    "eval/benchmark.py": "--batch_size 1 --warmup 1 --repeats 1 --threads 1 --accelerator cpu",
    "eval/benchmark_loading.py": "--depth 2",
    "eval/benchmark_writer.py": "--images 4 --batch_size 2 --side 32",
    "eval/plan.py": "--batch_size 2 --images 2 --seconds 1 --threads 1 --accelerator cpu --overwrite",
    "examples/compare.py": "--B 1 --device cpu",
    "-m sdvar.selftest": "--device cpu",
    "-m lightning_modules": "--data.images_per_class 1 --trainer.devices 1",
}
# what else is changed in a command that is run, and why
CHANGED = (
    (r"--labels 0-999", "--labels 0,999"),
    (r"(eval/fid.py --draft (?!.*--labels).*)", r"\1 --labels 0,999"),  # all classes would be a thousand images
    (r"--feature_extractor inception-v3-compat", ""),  # Inception's weights are not in the repository
    (r"(.*)--feature_extractor_weights \S+(.*)", r"\1\2 --feature_extractor fashion-mnist-128"),
    (r"--random_weights \S+", "--pair tiny"),  # the released sizes take minutes and gigabytes
    (r"\bd16 ", f"{DRAFT} "),  # short for a file on the hub
    (
        r"(predict_imagenet.yaml)",  # takes those too, all classes, on a GPU
        rf"\1 --model.pair.draft {DRAFT} --model.pair.target {TARGET} --model.pair.tokenizer {TOKENIZER} "
        "--model.precision 32-true --data.labels 0,999 --trainer.accelerator cpu",
    ),
    (r"(measure.py --out runs/predict_imagenet)", r"\1 --feature_extractor fashion-mnist-128"),
)
NOT_RUN = {
    r"sweep_imagenet": "takes released models of four sizes; tests/eval/cli/test_grid.py checks its points",
    r"--original ": "needs a checkout of the original code; tests/eval/test_benchmark.py has a stand-in",
    r"-m lightning_modules fit": "trains for minutes; tests/lightning_modules/test_commands.py trains one part",
    r"-m lightning_modules.training.export_weights": "writes over the shipped files what such a training made",
}


class Parsed(Exception):
    """The command line was understood: the work would begin here."""


def words_of(text: str) -> list[str]:
    """The words of a command from its program on: without launcher, and `make fid` as the command that it is.

    Returns:
        an empty list for lines that are no program of ours, and are known.
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
    assert words[0] == "python", f"no rule for {words[0]!r}; see tests/docs/rules.py"
    return words[1:]


def program_of(words: Sequence[str]) -> tuple[str, list[str]]:
    """A command's program as `PARSERS` calls it, and its arguments."""
    length = 2 if words[0] == "-m" else 1
    program = " ".join(words[:length])
    assert program in PARSERS, f"no rule for {program!r}; see tests/docs/rules.py"
    return program, list(words[length:])


def small(text: str) -> list[str] | None:
    """The words that run a documented command at a small size; None if it is not run."""
    words = words_of(text)
    if not words or any(re.search(pattern, shlex.join(words)) for pattern in NOT_RUN):
        return None
    line = shlex.join([*words, *SMALL.get(program_of(words)[0], "").split()])
    for pattern, replacement in CHANGED:
        line = re.sub(pattern, replacement, line)
    return shlex.split(line)


def _fid(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from eval.cli.arms import build_arms
    from eval.cli.options import parse

    monkeypatch.setattr("eval.cli.options.check_launcher", lambda *_: None)  # srun and torchrun are left out here
    build_arms(parse(arguments).strategy)


def _sweep(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    from eval.sweep import parse

    parse(arguments)


def _measure(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    from eval.cli.options import parse_metrics
    from eval.measure import build_parser

    parse_metrics(build_parser().parse_args(arguments).metrics or "none")


def _export(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    from eval.export import build_parser

    build_parser().parse_args(arguments)


def _benchmark(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    from eval.benchmarking.options import parse
    from eval.cli.arms import build_arms

    build_arms(parse(arguments).strategy)


def _plan(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    from eval.planning.options import parse

    parse([*arguments, "--overwrite"])  # plan.yaml is there for the commands that read it


def _stopped(main: str, where: str) -> Callable[[list[str], pytest.MonkeyPatch], None]:
    """A parser that is the command itself, stopped where its work would begin."""

    def parse(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        from importlib import import_module

        def stop(*_: object, **__: object) -> None:
            raise Parsed

        monkeypatch.setattr(where, stop)
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        with pytest.raises(Parsed):
            import_module(main).main()

    return parse


def _export_weights(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import functools

    from lightning_modules.training import export_weights as export

    for name in ("weights", "test_images"):
        function = getattr(export, name)
        monkeypatch.setattr(export, name, functools.wraps(function)(lambda *_, **__: None))
    monkeypatch.setattr(sys, "argv", ["export", *arguments])
    export.main()


def _two_paths(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    assert len(arguments) == 2 and not any(argument.startswith("-") for argument in arguments)


PARSERS = {
    "eval/fid.py": _fid,
    "eval/sweep.py": _sweep,
    "eval/measure.py": _measure,
    "eval/export.py": _export,
    "eval/benchmark.py": _benchmark,
    "eval/benchmark_loading.py": _stopped("eval.benchmark_loading", "eval.benchmark_loading.measure"),
    "eval/benchmark_writer.py": _stopped("eval.benchmark_writer", "eval.benchmark_writer.make_pictures"),
    "eval/plan.py": _plan,
    "examples/compare.py": _stopped("examples.compare", "sdvar.load_pair"),
    "docs/strategies_table.py": _two_paths,
    "docs/side_by_side.py": _two_paths,
    "docs/report_picture.py": _two_paths,
    "-m sdvar.selftest": _stopped("sdvar.selftest.__main__", "sdvar.load_pair"),
    "-m sdvar.checkpoints": lambda arguments, _: checkpoints_parser().parse_args(arguments),
    "-m lightning_modules": _stopped(
        "lightning_modules.__main__", "lightning_modules.__main__.CommandLine.instantiate_classes"
    ),
    "-m lightning_modules.training.export_weights": _export_weights,
}


def checkpoints_parser():
    """Of `python -m sdvar.checkpoints`."""
    from sdvar.checkpoints.__main__ import _parser

    return _parser()
