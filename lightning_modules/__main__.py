"""`python -m lightning_modules fit|validate|test|predict --config FILE`, and `distil`, a command of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import sdvar.system.starting  # noqa: F401 - before what may be missing or take seconds
from lightning_modules.options.command_line import PROG
from sdvar.system.imports import importing
from sdvar.system.interrupts import well_behaved


@well_behaved(
    PROG, "what is finished is kept: predict and distil continue with the same command, fit with --ckpt_path last"
)
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the sub-command of the command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["distil"]:
        from lightning_modules.distilling.command import main as distil

        distil(words[1:])
        return
    with importing():
        from lightning_modules.lightning_command import run  # takes seconds

    run(arguments)


if __name__ == "__main__":
    main()
