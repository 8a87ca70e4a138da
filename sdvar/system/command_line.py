"""Command-line parsers and errors: one line on stderr, with the nearest option, key or class for an unknown one."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, NoReturn

# as argparse and jsonargparse word them
UNKNOWN = re.compile(r"unrecognized arguments: (.*)", re.IGNORECASE)
NO_KEY = re.compile(  # in a config file
    r"(?:Option|Key) ['\"]?([\w.-]+)['\"]? is not (?:accepted|expected)"
    r"|Subcommand '\w+' does not accept option '([\w.]+)'"
)
NO_CLASS = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
NO_VALUE = re.compile(r"argument (--[\w.-]+)\S*: expected one argument")
TRUTH = {"true": True, "false": False}
NO_CHOICE = re.compile(r"(?:argument \w+: )?invalid choice: '([^']*)' \(choose from (.*?)\)")


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """The end of an error message: ``"; did you mean gamma?"``, or "" if no allowed word is similar.

    Args:
        given: what the user wrote.
        allowed: the valid words.
    """
    words = {word.lower(): word for word in allowed}
    nearest = difflib.get_close_matches(str(given).lower(), list(words), n=1)
    return f"; did you mean {words[nearest[0]]}?" if nearest else ""


def explain(parser: argparse.ArgumentParser, message: str) -> str:
    """A parser's error message in one line, with the nearest option, key or choice for an unknown one.

    Args:
        parser: the parser that rejected the command line.
        message: its own error message.
    """
    message = " ".join(message.split())
    if found := UNKNOWN.search(message):
        words = found[1].split()
        names = [word.partition("=")[0] for word in words if word.startswith("-")]
        if not names:
            return f"unexpected argument {words[0]!r}"
        if re.fullmatch("--local[-_]rank", names[0]):
            return f"unknown option {names[0]}, which torch.distributed.launch adds; start the command with torchrun"
        options = sorted(_option_names(parser))
        return ", ".join(f"unknown option {name}{did_you_mean(name, options)}" for name in names)
    if found := NO_KEY.search(message):
        keys = [option.removeprefix("--") for option in sorted(_option_names(parser))]
        key = found[1] or found[2]
        if key in keys:
            return f"{message[: found.start()]}{key} is no key of a config, but an option of the command line alone"
        within = [name for name in keys if name.endswith(f".{key}")]
        if len(within) == 1:
            return f"{message[: found.start()]}unknown key {key}; did you mean {within[0]}?"
        return f"{message[: found.start()]}unknown key {key}{did_you_mean(key, keys)}"
    if found := NO_CLASS.search(message):
        return f"{message[: found.end()]}{did_you_mean(found[2], dir(sys.modules.get(found[1])))}"
    if found := NO_VALUE.fullmatch(message):
        return f"{found[1]}: expected a value after it"
    if found := NO_CHOICE.search(message):
        choices = re.findall(r"[^\s,'\"]+", found[2])
        expected = f"expected one of {', '.join(choices)}, got {found[1]!r}{did_you_mean(found[1], choices)}"
        return message[: found.start()] + expected
    return message


def _option_names(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a parser and of its sub-commands, in their long form."""
    names = {name for name in parser._option_string_actions if name.startswith("--")}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            names = names.union(*map(_option_names, action.choices.values()))
    return names


def join_flags(arguments: Iterable[str], flags: Container[str], alone: bool) -> list[str]:
    """A command line with each flag's value in the same word: ``--quiet`` and ``--quiet true`` are ``--quiet=true``.

    Args:
        arguments: the command line.
        flags: the options that are true or false.
        alone: the command takes arguments without an option too: a word after a flag is one of them, unless it is true
            or false.
    """
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] in flags:
            value = word.lower() if word.lower() in TRUTH else None if alone or word.startswith("-") else word
            joined[-1] += f"={'true' if value is None else value}"
            if value is not None:
                continue
        joined.append(word)
    if joined and joined[-1] in flags:
        joined[-1] += "=true"
    return joined


def expand_home(value: Any) -> Any:
    """A text that begins with ``~`` as a path in the home folder; in lists and mappings too, in namespaces in place.

    A shell does so only where a word begins: neither in ``--out=~/x`` nor in a config file.
    """
    if isinstance(value, str | Path):
        return type(value)(os.path.expanduser(value)) if str(value).startswith("~") else value
    if isinstance(value, list | tuple):
        return type(value)(map(expand_home, value))
    if isinstance(value, dict):
        return {key: expand_home(one) for key, one in value.items()}
    if isinstance(value, argparse.Namespace):
        vars(value).update({key: expand_home(one) for key, one in vars(value).items()})
    return value


def listed(given: str | Iterable[object] | None) -> list[str]:
    """The words of a list, or of a text with commas."""
    words = given.split(",") if isinstance(given, str) else given or []
    return [str(word).strip() for word in words if str(word).strip()]


def truth(text: str) -> bool:
    """The type of a flag, see `join_flags`."""
    if text.lower() not in TRUTH:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return TRUTH[text.lower()]


class OneLineErrors:
    """Mixin for a parser of argparse or jsonargparse: an invalid command line is reported in one line (see `explain`).

    Exits with status 2; raises argparse.ArgumentError instead if the parser has ``exit_on_error=False``.
    """

    def error(self: Any, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        line = explain(parser, message)
        if not self.exit_on_error:
            raise argparse.ArgumentError(None, line) from ex
        stop(parser.prog.replace(" [options]", ""), line)


class ArgumentParser(OneLineErrors, argparse.ArgumentParser):
    """argparse's, but descriptions keep their line breaks, options have no abbreviations, and errors take one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        shared: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(*args, **shared | kwargs)

    def add_flag(self, name: str, help: str) -> None:
        """Adds an option that is true if it is given, alone or with true."""
        self.add_argument(name, type=truth, default=False, metavar="[true|false]", help=help)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        flags = [name for action in self._actions if action.type is truth for name in action.option_strings]
        given = sys.argv[1:] if args is None else args
        alone = any(not action.option_strings for action in self._actions)
        known, unknown = super().parse_known_args(join_flags(given, flags, alone), namespace)
        return expand_home(known), unknown


def count(text: str) -> int:
    """The type of an option that counts; beyond nine digits a number would fail in the midst of the work."""
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an int from 1 to 999999999, got {text!r}")
    return int(text)


def threads(text: str) -> int:
    """The type of an option that is a number of CPU threads."""
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"expected an int from 1 to 1024, got {text!r}")
    return int(text)


def check_folder(out: object) -> None:
    """Refuses what can be no folder's path: nothing, an empty text, a NUL in it; ValueError says so."""
    if not isinstance(out, str | os.PathLike) or not os.fspath(out) or "\0" in str(out):
        raise ValueError(f"out: expected the path of a folder, got {out!r}")


def check_output(out: str | None) -> None:
    """Refuses a file that cannot be written, before hours of work.

    Raises:
        ValueError: its folder does not exist or is not writable, or it is a folder itself.
    """
    if not out:
        return
    file = Path(out).absolute()
    try:
        if file.is_dir():
            raise IsADirectoryError
        with tempfile.TemporaryFile(dir=file.parent):  # to try is to know: the superuser has every permission
            pass
    except OSError:
        raise ValueError(f"out: expected a file that can be written, got {out}") from None


def needs(error: ModuleNotFoundError) -> str:
    """What to do about a package that `sdvar` alone does not install."""
    return f"needs the package {error.name}, which comes with the commands: pip install 'sdvar[eval]'"


def stop(command: str, error: object) -> NoReturn:
    """Print ``COMMAND: error: …`` in one line on stderr and exit with status 2.

    Args:
        command: as the user calls it, such as "eval/fid.py".
        error: an exception or a text; the traceback of an exception goes to the logger "sdvar" at level DEBUG.
    """
    if isinstance(error, BrokenPipeError):  # nobody reads the output, see `sdvar.system.interrupts`
        raise error
    if isinstance(error, BaseException):
        logging.getLogger("sdvar").debug("stopped", exc_info=error)
    print(f"{command}: error: {' '.join(line.strip() for line in str(error).splitlines())}", file=sys.stderr)
    sys.exit(2)
