"""The table that a run prints at its end."""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from eval.console import Page
from eval.metrics.registry import columns
from eval.report.words import (
    DIFFERENCE,
    FAR,
    difference,
    first_network,
    further_networks,
    images,
    is_reseeded_baseline,
    real_images,
    warned,
    which,
)
from lightning_modules.run.names import CLAIM

WIDTH = 150  # of the page where stdout is not a terminal
OF_FEATURES = {"Distances": "distance_to", "Inception Score": "inception_score_mean"}  # parts of their keys
MOST_COMPARED = 8  # arms with a line of their own


def print_table(metrics: dict[str, Any], report: Path) -> None:
    """Prints the arms side by side, the warnings and the paths of the report and of the claim to stdout.

    Args:
        metrics: as in metrics.json.
        report: its file; the claim lies beside it.
    """
    arms = metrics["arms"]
    count = next(iter(arms.values()))["images"]
    tables = [_table(arms, f"{images(count)} per arm", _caption(metrics))]
    for network in further_networks(arms):
        of_network = {name: arm.get("networks", {}).get(network, {}) for name, arm in arms.items()}
        tables.append(_table(of_network, f"by {network}"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII stdout
    page = Page(WIDTH)
    for table in tables:
        page.print(table)
    for line in _differences(arms):
        page.say(line)
    for text, names in warned(arms).items():
        page.say(f"warning ({which(names, arms)}): {text}")
    page.say(f"claim: {report.with_name(CLAIM)} (eval/verify.py checks it)")
    page.say(f"report: {report}")


def _table(arms: Mapping[str, Mapping[str, Any]], title: str, caption: str | None = None) -> Table:
    """The columns that an arm has, a row per arm."""
    having = {key for arm in arms.values() for key, value in arm.items() if value is not None}
    shown = [column for column in columns() if column.terminal and column.key in having]
    table = Table(title=title, caption=caption)
    table.add_column("arm", no_wrap=True)
    for column in shown:
        table.add_column(_heading(column.title), justify="right")
    for name, arm in arms.items():
        table.add_row(name, *(column.text(arm) for column in shown))
    return table


def _differences(arms: dict[str, dict]) -> list[str]:
    """How the arms' distances to the reference compare with the baseline's; of few arms, the report has all."""
    having = {name: difference(arm) for name, arm in arms.items() if DIFFERENCE in arm}
    if not 0 < len(having) <= MOST_COMPARED:
        return []
    return [f"distance to the reference, against the baseline's: {name} {words}" for name, words in having.items()]


def _heading(title: str) -> str:
    """A title in two lines."""
    return "\n".join(textwrap.wrap(title, len(title) // 2 + 1, break_long_words=False))


def _caption(metrics: dict[str, Any]) -> str:
    extractor = first_network(metrics["arms"])
    having = {key for arm in metrics["arms"].values() for key, value in arm.items() if value is not None}
    of_features = [title for title, part in OF_FEATURES.items() if any(part in key for key in having)]
    environment = metrics["environment"]
    reference = real_images(metrics)
    real = f"Reference: {reference}. " if reference else ""
    features = f"{' and '.join(of_features)} by {extractor}. " if of_features else ""
    reseeded = [name for name in metrics["arms"] if is_reseeded_baseline(metrics["arms"], name)]
    where = ", at the noise floor" if FAR in having else ""
    floor = f"{reseeded[0]}: the baseline with other seeds{where}. " if reseeded else ""
    threads = "" if environment["threads"] is None else f", threads {environment['threads']}"
    return (
        f"{real}{features}{floor}speed: the baseline's time over the arm's, median of batches of "
        f"{metrics['batch_size']}, on {environment['device']}{threads}"
    )
