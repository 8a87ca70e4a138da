"""From the images that a job has decoded to its metrics and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from eval.claims.write import write_claim
from eval.main_job.job import Job
from eval.main_job.repeated import keep_outcome
from eval.metrics.decoding.target import Target
from eval.metrics.measurement import Measurement
from eval.metrics.measuring import measure_run
from eval.report.page import write_report
from lightning_modules.run.finished import read_run
from lightning_modules.run.sessions import end_session
from sdvar.system import steps


def measure_job(job: Job, options: Namespace, decode: float) -> tuple[dict[str, Any], Path]:
    """Ends the session, measures the run, writes its claim and its report; on rank 0.

    Args:
        job: whose trainer has predicted.
        options: of the command.
        decode: seconds that this took.

    Returns:
        The content of metrics.json, and the file of the report.

    Raises:
        ValueError, OSError: the images cannot be measured, or the folder cannot be written.
    """
    with job.folder.lock.held():
        end_session(job.folder, decode, job.predictor.prefix_seconds())
        steps.log.info("measuring %s", ", ".join(options.metrics) or "speed")
        target, record = Target.of(job.predictor, options.quiet), read_run(job.folder.path)
        metrics = measure_run(Measurement.of(options), job.config, record, job.references, target)
        write_claim(record, metrics)
        steps.log.info("writing the report")
        report = write_report(job.folder.path)
        keep_outcome(options, job.folder)
        return metrics, report
