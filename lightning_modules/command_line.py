"""Parsers of the commands that take config files: jsonargparse's, with examples in the help and errors of one line."""

from __future__ import annotations

import argparse

import jsonargparse

from sdvar.command_line import OneLineErrors


class HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Keeps examples, which are indented, as they are; leaves out a default of None, where the help says what holds."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(part if "\n  " in part else fill(part, width, indent) for part in paragraphs)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = super()._get_help_string(action)
        return text.replace(", default: %(default)s", "") if action.default is None else text

    def _get_type_str(self, action: argparse.Action) -> str | None:
        text = super()._get_type_str(action)
        return text and text.replace(" | null", "")


class ArgumentParser(OneLineErrors, jsonargparse.ArgumentParser):
    """Raises `jsonargparse.ArgumentError` with one line; options are not abbreviated.

    Args:
        epilog: examples, one a line, indented.
    """

    def __init__(self, *args, **kwargs) -> None:
        shared = {"formatter_class": HelpFormatter, "allow_abbrev": False, "exit_on_error": False}
        super().__init__(*args, **shared | kwargs)
