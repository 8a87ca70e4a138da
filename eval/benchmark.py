"""Time and memory of strategies side by side, beside the least that the machine can take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import sdvar.system.starting  # noqa: F401 - before what may be missing or take seconds
from eval.benchmarking.options import parse
from eval.cli.groups import parsed
from sdvar.system import steps
from sdvar.system.atomic import write_atomically
from sdvar.system.interrupts import well_behaved
from sdvar.system.log_lines import on_stderr


@well_behaved("eval/benchmark.py", "nothing was written, give the command again")
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/benchmark.py --help`."""
    options = parsed(arguments, parse)
    if options is None:
        return
    steps.log.info("loading the models")
    from eval.benchmarking import job
    from eval.benchmarking.printing import print_tables

    prepared = job.prepare(options)
    with on_stderr("eval.benchmark"):
        report = job.run(options, prepared)
    if options.out:
        write_atomically(Path(options.out), (json.dumps(report, indent=2) + "\n").encode())
    print_tables(report)


if __name__ == "__main__":
    main()
