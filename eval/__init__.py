"""The main job: decode, measure, report. From Python, `eval.run`."""

from __future__ import annotations

from typing import Any


def run(config: str | None = None, **options: Any) -> dict[str, Any]:
    """The main job, `python eval/fid.py`, from Python: in a script or a notebook, in this process.

    Called again with the same options it continues a run that was interrupted, or returns what it measured.

    Args:
        config: a YAML file of options, which the arguments override.
        options: those of `python eval/fid.py --help`. `strategy` maps names of arms to strategies, such as
            ``{"fast": sdvar.Speculative(2)}``, or to what a config has; `sampling` is a `sdvar.Sampling` or a mapping
            of what differs from the default.

    Returns:
        The content of the run's metrics.json. The folder `out` also holds claim.json, report.html and the images.

    Raises:
        ValueError: an option or a file is wrong, in one line, before anything is decoded; or more than one process is
            asked for, which takes the command.
        OSError: the folder cannot be written. What is finished is kept.
    """
    from eval.main_job.in_python import run  # heavy

    return run(config, options)
