"""The main job: decode images with every arm, measure them, write the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import sdvar.system.starting  # noqa: F401 - before what may be missing or take seconds
from eval.cli.groups import Options, parsed
from eval.cli.options import effective_config, parse
from eval.main_job.repeated import earlier_outcome
from eval.report.terminal import print_table
from lightning_modules.processes.launcher import (
    an_ended_process_says,
    is_first,
    leave_process_group,
    let_the_first_speak,
)
from sdvar.system import steps
from sdvar.system.command_line import stop
from sdvar.system.imports import importing
from sdvar.system.interrupts import well_behaved
from sdvar.system.memory import out_of_memory_says


@well_behaved("eval/fid.py", "what is finished is kept, and the same command continues")
def main(arguments: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Runs the command, see `python eval/fid.py --help`; returns what metrics.json holds, None but on rank 0."""
    return run("eval/fid.py", parse, arguments)


def run(
    command: str,
    parse: Callable[[Sequence[str]], Options],
    arguments: Sequence[str] | None = None,
    extend: bool = False,
) -> dict[str, Any] | None:
    """Decodes, measures and reports; an error ends the process with one line on stderr and exit code 2.

    Args:
        command: as errors name it.
        parse: turns a command line into the options of `eval/fid.py`.
        arguments: the command line; None for that of this process.
        extend: add arms to the run that the folder holds.

    Returns:
        What metrics.json holds; None on every process but the first.
    """
    started = time.perf_counter()
    try:
        options = parsed(arguments, parse, effective_config)
        if options is None:
            return None
        if earlier := earlier_outcome(options):
            print_table(*earlier)
            return earlier[0]
        steps.show(not options.quiet and is_first())
        steps.log.info("loading libraries and models")
        with importing():  # heavy: only once the options are known to be valid
            from eval.main_job.job import out_of_memory, prepare
            from lightning_modules.processes.stopping import end_with_parent

        end_with_parent()
        job = prepare(options, started, extend)
    except (ValueError, TypeError, OSError) as error:
        _stop(command, error)
    prepared = time.perf_counter()
    try:
        with out_of_memory_says(lambda: out_of_memory(job.predictor, options.batch_size)), an_ended_process_says():
            job.trainer.predict(job.predictor, datamodule=job.data, return_predictions=False)
    except (ValueError, OSError) as error:  # NaN, a full disk: what is finished is kept, the same command continues
        _stop(command, error)
    decoded = time.perf_counter()
    leave_process_group()
    if not job.trainer.is_global_zero:
        return None

    from eval.estimates.memory import measuring
    from eval.main_job.outcome import measure_job

    try:
        with measuring():
            metrics, report = measure_job(job, options, decoded - prepared)
    except (ValueError, OSError) as error:
        _stop(command, error)
    print_table(metrics, report)
    return metrics


def _stop(command: str, error: Exception | str) -> NoReturn:
    let_the_first_speak()
    stop(command, error)


if __name__ == "__main__":
    main()
