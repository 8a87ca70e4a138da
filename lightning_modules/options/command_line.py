"""Parsers of the commands that take config files: jsonargparse's, with examples in the help and errors of one line."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, get_args

import jsonargparse
from jsonargparse.typing import restricted_number_type

from lightning_modules.options import plain_yaml
from lightning_modules.options.wording import TOO_LARGE, reword
from sdvar.system.command_line import OneLineErrors, expand_home, join_flags

PROG = "python -m lightning_modules"
MOST = 10**15  # of what is counted, images or bytes: the files that record it hold numbers of 64 bits

plain_yaml.use_in_parsers()


@functools.cache
def number(words: str, kind: type, *bounds: tuple[str, float]) -> Any:
    """A type of number for an option.

    Args:
        words: what help and errors call it, such as "int >= 1".
        kind: int or float.
        bounds: such as (">=", 1); all of them must be met.
    """
    made = restricted_number_type(words, kind, list(bounds))
    within_bounds = made._validation_fn

    def check(cls: type, value: Any) -> None:
        if isinstance(value, str) and "_" in value:  # Python reads 1_0 as 10
            raise ValueError(f"{value} not a number")
        within_bounds(cls, value)
        if kind is int and int(value) > MOST:
            raise ValueError(f"{value} {TOO_LARGE}")

    made._validation_fn = check
    return made


Count = number("int >= 1", int, (">=", 1))
Threads = number("int from 1 to 1024", int, (">=", 1), ("<=", 1024))
Nodes = number("int from 1 to 10000", int, (">=", 1), ("<=", 10_000))
Above = number("number above 0", float, (">", 0), ("<", float("inf")))


class PlainErrors(OneLineErrors):
    """Mixin for a parser of jsonargparse: `OneLineErrors` with jsonargparse's messages reworded."""

    def parse_args(self: Any, args: Sequence[str] | None = None, *more: Any, **options: Any) -> jsonargparse.Namespace:
        given = sys.argv[1:] if args is None else args
        alone = any(not action.option_strings for action in self._actions if action.dest != "subcommand")
        try:
            return expand_home(super().parse_args(join_flags(given, set(_flags(self)), alone), *more, **options))
        except UnicodeDecodeError as error:  # jsonargparse reads the file before it checks anything
            self.error("config: expected text in UTF-8; save the file as such", error)

    def error(self: Any, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(reword(message), ex)


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The options of a parser, and of its sub-commands, that are true or false."""
    for action in parser._actions:
        if getattr(action, "_typehint", None) in (bool, bool | None):
            yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for choice in action.choices.values():
                yield from _flags(choice)


class HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Keeps examples, which are indented, as they are; leaves out a default of None, which the help states in words."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(part if "\n  " in part else fill(part, width, indent) for part in paragraphs)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = super()._get_help_string(action)
        if action.default is not None:
            return text
        return text.replace(", default: %(default)s", "").replace(" (default: %(default)s)", "")

    def _get_type_str(self, action: argparse.Action) -> str | None:
        text = super()._get_type_str(action)
        return text and text.replace(" | null", "")


class ArgumentParser(PlainErrors, jsonargparse.ArgumentParser):
    """Raises `jsonargparse.ArgumentError` with one line; options are not abbreviated.

    Args:
        epilog: examples, one per line, indented.
    """

    def __init__(self, *args, **kwargs) -> None:
        shared = {"formatter_class": HelpFormatter, "allow_abbrev": False, "exit_on_error": False}
        super().__init__(*args, **shared | kwargs)

    def parse_args(self, *args: Any, **options: Any) -> jsonargparse.Namespace:
        """A key without a value, `seed:`, leaves its option at the default; but not for a path: ~ may mean a folder."""
        given = super().parse_args(*args, **options)
        for action in self._actions:
            kind = getattr(action, "_typehint", action.type)
            may_be_none = kind is str or type(None) in get_args(kind)
            if given.get(action.dest, 0) is None and action.default is not None and not may_be_none:
                given[action.dest] = action.default
        return given
