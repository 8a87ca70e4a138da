"""Parsers of the commands that take config files: jsonargparse's, with examples in the help and errors of one line."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

import jsonargparse
from jsonargparse.typing import restricted_number_type

from sdvar.command_line import OneLineErrors, did_you_mean

# as jsonargparse words its errors
UNION = re.compile(r"Does not validate against any of the Union subtypes Subtypes: (.*?) Errors: - (.*?)(?: - .*?)? "
                   r"Given value type: .*? Given value: (.*)")  # fmt: skip
NO_TYPE = re.compile(r"Expected a <class '(\w+)'>(?:\. Got value: (.*))?")
NO_LITERAL = re.compile(r"Expected a typing\.Literal\[(.*?)\](?:\. Got value: (.*))?")
NO_NUMBER = re.compile(r"Not of type (.*?): (?:(?P<given>\S+) )?.*?(?:\. Got value: (?P<value>.*))?$")
NO_CLASS = re.compile(r"Expected a dot import path string: (.*)")
WORDS = {"int": "an int", "float": "a number", "bool": "true or false", "str": "a text", "dict": "a mapping"}


def number(words: str, kind: type, *bounds: tuple[str, float]) -> Any:
    """A type of number for an option.

    Args:
        words: what help and errors call it, such as "int >= 1".
        kind: int or float.
        bounds: such as (">=", 1); all of them must be met.
    """
    return restricted_number_type(words, kind, list(bounds))


def reword(message: str) -> str:
    """An error message of jsonargparse in one line of our form: name: expected …, got …; did you mean …?"""
    message = UNION.sub(_first_of_union, " ".join(message.split()))
    message = re.sub(r"Problem with given class_path '[\w.]+': ", "", message)
    message = re.sub(r"Parser key \"([\w.]+)\": ", r"\1: ", message)
    message = re.sub(r"the following arguments are required: ", "missing ", message)
    message = re.sub(r"Group '(\w+)' does not accept option '(\w+)'", r"Key '\1.\2' is not accepted", message)
    message = NO_LITERAL.sub(lambda found: _expected_one_of(found[1], found[2]), message)
    message = NO_TYPE.sub(lambda found: f"expected {WORDS.get(found[1], found[1])}{_got(found[2])}", message)
    message = NO_CLASS.sub(r"expected a class, got '\1'", message)
    return NO_NUMBER.sub(_expected_number, message)


def _first_of_union(found: re.Match[str]) -> str:
    subtypes, reason, value = found.groups()
    words = re.findall(r"Literal\[(.*?)\]", subtypes)
    if words and (named := NO_TYPE.fullmatch(reason)):  # a number, or one of some words
        return f"expected {WORDS.get(named[1], named[1])} or {', '.join(words)}{_got(value)}"
    return f"{reason}. Got value: {value}" if re.match(r"Expected a (<|typing)|Not of type", reason) else reason


def _expected_one_of(allowed: str, given: str | None) -> str:
    words = re.findall(r"'(.*?)'", allowed)
    return f"expected one of {', '.join(words)}{_got(given)}{did_you_mean(given, words)}"


def _expected_number(found: re.Match[str]) -> str:
    quoted = re.search(r"'(.*)'$", found[0])  # invalid literal for int() with base 10: 'x'
    given = found["value"] or (quoted[1] if quoted else found["given"])
    words = found[1].replace("ClosedUnitInterval", "number from 0 to 1")
    return f"expected {'an' if words.startswith('int') else 'a'} {words}{_got(given)}"


def _got(given: str | None) -> str:
    if given is None:
        return ""
    return f", got {given}" if re.fullmatch(r"[-+.\d]+(e[-+]?\d+)?", given) else f", got {given!r}"


class PlainErrors(OneLineErrors):
    """Mixin for a parser of jsonargparse: `OneLineErrors` with jsonargparse's messages reworded."""

    def error(self: Any, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(reword(message), ex)


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
