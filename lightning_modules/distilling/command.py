"""`python -m lightning_modules distil`: a draft for a target of one's own."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.distilling.options import PROG, parse
from lightning_modules.processes.launcher import let_the_first_speak
from lightning_modules.processes.quiet import quieten_libraries
from sdvar.system.command_line import stop


def main(arguments: Sequence[str]) -> None:
    """Runs the command; see `python -m lightning_modules distil --help`."""
    try:
        options = parse(arguments)

        from lightning_modules.distilling.job import Job  # takes seconds
        from lightning_modules.processes.stopping import end_with_parent

        end_with_parent()
        quieten_libraries()
        Job(options).run()
    except (ValueError, TypeError, OSError) as error:
        let_the_first_speak()
        stop(PROG, error)
