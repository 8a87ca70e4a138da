"""Lines and tables on stdout, as several commands print them."""

from __future__ import annotations

import os
import sys

from rich.console import Console


class Page(Console):
    """Stdout: as wide as the terminal, or of a given width where it is none.

    Args:
        width: columns.
    """

    def __init__(self, width: int = 140) -> None:
        super().__init__()
        if not self.is_terminal:
            self.width = width

    def say(self, line: str) -> None:
        """Prints a line as it is, however long."""
        self.print(line, soft_wrap=True, highlight=False, markup=False)

    def on_broken_pipe(self) -> None:
        """Nobody reads the rest; the work is done and its files are written: rich would end it with status 1."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def ms(seconds: float) -> str:
    """A time in milliseconds, as tables show it."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
