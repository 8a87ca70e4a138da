"""The metrics there are. `--metrics`, metrics.json's schema, the printed table and the report derive from this list.

To add one, write a file in a folder beside this file with a `Metric` (see `eval.metrics.metric`) and its test, and add
it to `METRICS`. In the order of the list metrics are computed and tables show their columns.

    for metric in METRICS:                  # groups of columns, with metric.title above them
        for column in metric.columns:
            if column.title:                # the columns that belong in a table
                column.text(arm)            # arm: an entry of "arms" in metrics.json; "-" where it has no value
"""

from __future__ import annotations

from collections.abc import Collection

from eval.metrics.decoding.likelihood import LIKELIHOOD
from eval.metrics.decoding.scales import SCALES
from eval.metrics.decoding.speed import SPEED
from eval.metrics.decoding.work import AGREEMENT, WORK
from eval.metrics.metric import Column, Metric
from eval.metrics.pairing.perceptual import PERCEPTUAL
from eval.metrics.pairing.pixels import PAIRS
from eval.metrics.pairing.similarity import SIMILARITY
from eval.metrics.quality.classes import CLASSES
from eval.metrics.quality.duplicates import DUPLICATES
from eval.metrics.quality.frechet_distance import FRECHET_DISTANCE
from eval.metrics.quality.inception_score import INCEPTION_SCORE
from eval.metrics.quality.kernel_distance import KERNEL_DISTANCE
from eval.metrics.quality.precision_recall import PRECISION_RECALL

METRICS: tuple[Metric, ...] = (
    WORK,
    AGREEMENT,
    INCEPTION_SCORE,
    FRECHET_DISTANCE,
    KERNEL_DISTANCE,
    PRECISION_RECALL,
    CLASSES,
    DUPLICATES,
    PAIRS,
    SIMILARITY,
    PERCEPTUAL,
    LIKELIHOOD,
    SCALES,
    SPEED,
)
CHOICES = {metric.name: metric for metric in METRICS if metric.needs != "tables"}  # what --metrics takes
DEFAULTS = [name for name, metric in CHOICES.items() if metric.default]
HELP = f"list of {', '.join(f'{name} ({metric.help})' for name, metric in CHOICES.items())}; none makes images only"


def columns() -> list[Column]:
    """Every column of every metric, in the order of the tables."""
    return [column for metric in METRICS for column in metric.columns]


def metrics_that_need(needs: str, names: Collection[str] | None = None) -> list[Metric]:
    """The metrics with that need, in the registry's order; of `names` alone where they are given."""
    return [metric for metric in METRICS if metric.needs == needs and (names is None or metric.name in names)]


def parse_metrics(given: str | list[str]) -> list[str]:
    """Names of metrics as a user writes them: a list, a text with commas, or none.

    Raises:
        ValueError: a name is unknown.
    """
    names = given.replace(" ", "").split(",") if isinstance(given, str) else list(given)
    names = [] if names in (["none"], [""]) else names
    wrong = [name for name in names if name not in CHOICES]
    if wrong:
        raise ValueError(f"metrics: expected a list of {', '.join(CHOICES)}, or none; got {wrong[0]!r}")
    return names
