"""Speed: time of a batch, images per second, and speed relative to the baseline's in the same batches."""

from __future__ import annotations

from statistics import median

import numpy as np

from eval.metrics.intervals import bootstrap, stated
from eval.metrics.metric import ArmTables, Column, Metric, Result, Values

FEW_BATCHES = 5  # a median of fewer says little on a machine that does other work too


def compute(tables: ArmTables) -> Result:
    """Medians over batches, with intervals by bootstrap; the baseline decodes each batch in turn with the arm."""
    batches, size = tables.batches, tables.batch_size
    of_batches = [float(row["seconds"]) for row in batches]
    seconds, (low, high) = median(of_batches), bootstrap(of_batches, _medians)
    values: Values = {"seconds_per_batch_median": seconds, "images_per_second": size / seconds}
    values |= stated("seconds_per_batch_median", [low, high], len(batches))
    values |= stated("images_per_second", [size / high, size / low], len(batches))
    relative = [float(row["baseline_seconds"]) / float(row["seconds"]) for row in batches if row["baseline_seconds"]]
    if relative:
        values["speed_relative_to_baseline"] = median(relative)
        values |= stated("speed_relative_to_baseline", bootstrap(relative, _medians), len(relative))
    count = len(relative or batches)
    return values, [f"speed: too few batches to quote it ({count})"] if count < FEW_BATCHES else []


def _medians(drawn: np.ndarray) -> np.ndarray:
    return np.median(drawn, axis=-1)


SPEED = Metric(
    name="speed",
    title="Speed",
    help="time of a batch",
    needs="tables",
    compute=compute,
    columns=(
        Column(
            "images_per_second",
            "per process: the batch size over the median time of a batch",
            title="images/s per process",
            terminal=True,
            decimals=1,
            better="higher",
            minimum=0,
            always=True,
            interval=True,
        ),
        Column(
            "seconds_per_batch_median",
            "median time of a batch in seconds, without warm-up",
            title="seconds per batch",
            decimals=3,
            better="lower",
            minimum=0,
            always=True,
            interval=True,
        ),
        Column(
            "speed_relative_to_baseline",
            "median over batches of the baseline's seconds over the arm's",
            title="speed",
            terminal=True,
            decimals=2,
            better="higher",
            minimum=0,
            interval=True,
        ),
    ),
)
