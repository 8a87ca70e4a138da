"""Command-line parsers and errors: one line on stderr, with the nearest option, key or class for an unknown one."""

from __future__ import annotations

import argparse
import difflib
import logging
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

# as argparse and jsonargparse word them
UNKNOWN = re.compile(r"unrecognized arguments: (.*)", re.IGNORECASE)
NO_KEY = re.compile(  # in a config file
    r"(?:Option|Key) ['\"]?([\w.]+)['\"]? is not (?:accepted|expected)"
    r"|Subcommand '\w+' does not accept option '([\w.]+)'"
)
NO_CLASS = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
NO_CHOICE = re.compile(r"(?:argument \w+: )?invalid choice: '([^']*)' \(choose from (.*?)\)")


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """The end of an error message: ``"; did you mean gamma?"``, or "" if no allowed word is similar.

    Args:
        given: what the user wrote.
        allowed: the valid words.
    """
    nearest = difflib.get_close_matches(str(given), list(allowed), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


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
        options = sorted(_option_names(parser))
        return ", ".join(f"unknown option {name}{did_you_mean(name, options)}" for name in names)
    if found := NO_KEY.search(message):
        keys = [option.removeprefix("--") for option in sorted(_option_names(parser))]
        key = found[1] or found[2]
        return f"{message[: found.start()]}unknown key {key}{did_you_mean(key, keys)}"
    if found := NO_CLASS.search(message):
        return f"{message[: found.end()]}{did_you_mean(found[2], dir(sys.modules.get(found[1])))}"
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


def count(text: str) -> int:
    """The type of an option that counts; beyond nine digits a number would fail in the midst of the work."""
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an int from 1 to 999999999, got {text!r}")
    return int(text)


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


def stop(command: str, error: object) -> NoReturn:
    """Print ``COMMAND: error: …`` in one line on stderr and exit with status 2.

    Args:
        command: as the user calls it, such as "eval/fid.py".
        error: an exception or a text; the traceback of an exception goes to the logger "sdvar" at level DEBUG.
    """
    if isinstance(error, BaseException):
        logging.getLogger("sdvar").debug("stopped", exc_info=error)
    print(f"{command}: error: {' '.join(line.strip() for line in str(error).splitlines())}", file=sys.stderr)
    sys.exit(2)
