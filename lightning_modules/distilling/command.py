"""`python -m lightning_modules distil`: a draft for a target of one's own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from lightning_modules.distilling.options import PROG, parse
from sdvar.command_line import stop


def main(arguments: Sequence[str]) -> None:
    """Runs the command; see `python -m lightning_modules distil --help`."""
    try:
        options = parse(arguments)

        from lightning_modules.distilling.job import Job  # takes seconds

        warnings.filterwarnings("ignore", message=".*(does not have many workers|Checkpoint directory|isinstance).*")
        Job(options).run()
    except (ValueError, TypeError, OSError) as error:
        stop(PROG, error)
