"""The console script `sdvar`: hands the command line to the command that its first word names."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple


class Command(NamedTuple):
    """A command: the module whose `main(arguments)` runs it, one line of help, and the words that come first."""

    module: str
    help: str
    words: tuple[str, ...] = ()


COMMANDS = {
    "fid": Command("eval.fid", "decode images with a baseline and other strategies, measure them, write a report"),
    "sweep": Command("eval.sweep", "the same for a grid of strategies over one baseline"),
    "measure": Command("eval.measure", "measure a finished run again"),
    "verify": Command("eval.verify", "check the claim of a run: decode some of its images again and compare"),
    "export": Command("eval.export", "write the images of a finished run for OpenAI's evaluator"),
    "plan": Command("eval.plan", "find the fastest schedule for a pair, a batch size and this machine"),
    "benchmark": Command("eval.benchmark", "measure time and memory of strategies side by side"),
    "gpu": Command("eval.first_contact", "check and measure decoding on a GPU, the first run on a new machine"),
    "predict": Command("lightning_modules.__main__", "decode images only, from a config file", ("predict",)),
    "fit": Command("lightning_modules.__main__", "train a part of the bundled pair, from a config file", ("fit",)),
    "tokens": Command("eval.tokens", "store images of a target as tokens, to train a draft on them"),
    "distil": Command("lightning_modules.__main__", "train a draft for a target of your own", ("distil",)),
    "selftest": Command("sdvar.selftest.__main__", "check that a pair decodes exactly on this machine"),
    "inspect": Command("sdvar.checkpoints.__main__", "describe checkpoint files", ("inspect",)),
    "convert": Command("sdvar.checkpoints.__main__", "rewrite a checkpoint as safetensors", ("convert",)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    `sys.argv` stays as it is: Lightning starts further processes of a run with the same command line.

    Args:
        arguments: the command line; None for that of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        return _say(_help()) or (0 if words else 2)
    if words[0] == "--version":
        return _say(version("sdvar"))
    if words[0] not in COMMANDS:
        print(f"sdvar: error: {_unknown(words[0])}", file=sys.stderr)
        return 2
    command = COMMANDS[words[0]]
    try:
        module = import_module(command.module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("eval", "lightning_modules", "sdvar"):
            raise
        from sdvar.system.command_line import needs

        print(f"sdvar: error: {words[0]} {needs(error)}", file=sys.stderr)
        return 2
    for package in ("sdvar", "lightning_modules"):
        import_module(package)
    # The user's folder comes last, and after our packages: its rules can be imported, and an eval.py or sdvar.py in it
    # hides nothing, even in an editable install, whose packages are found after those on sys.path.
    sys.path.append(os.getcwd())
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    status = module.main([*command.words, *words[1:]])
    return status if isinstance(status, int) else 0  # eval.fid returns the metrics


def _say(text: str) -> int:
    """Prints, and returns an exit status: a reader that leaves is no failure, a full disk is one line."""
    try:
        print(text, flush=True)
        return 0
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left when it ends
        if isinstance(error, BrokenPipeError):
            return 0
        print(f"sdvar: error: stdout: {error.strerror}", file=sys.stderr)
        return 2


def _help() -> str:
    lines = (f"  {name:<11}{command.help}" for name, command in COMMANDS.items())
    return "\n".join((
        "usage: sdvar COMMAND [options]",
        "",
        "Speculative decoding for visual autoregressive models, and its evaluation.",
        "",
        "commands:",
        *lines,
        "",
        "`sdvar COMMAND --help` lists a command's options.",
    ))  # fmt: skip


def _unknown(word: str) -> str:
    from sdvar.system.command_line import did_you_mean  # imports torch: only after a mistake

    return f"command: expected one of {', '.join(COMMANDS)}, got {word!r}{did_you_mean(word, COMMANDS)}"


if __name__ == "__main__":
    sys.exit(main())
