"""The section with the results of every arm: tables of the registry's columns, repeats, and their warnings."""

from __future__ import annotations

from collections.abc import Sequence

from eval.metrics.metric import Metric
from eval.metrics.registry import METRICS, metrics_that_need
from eval.report.run import Run, of_network
from eval.report.words import (
    DASH,
    FAR,
    further_networks,
    is_reseeded_baseline,
    is_simulated,
    metric_title,
    noise_floor,
    other_network,
    real_images,
    sameness,
    shown,
    warned,
    which,
)
from lightning_modules.run.names import BASELINE

HEADLINES = ("is", "fid")  # beside what decoding took, in the first table; all other metrics are in the second


def section(run: Run) -> dict:
    """Values of the section's template; a warning that several arms share is given once, above the tables."""
    arms, floor = run.arms, noise_floor(run.arms)
    warnings = warned(arms)
    first = [metric for metric in METRICS if metric.needs == "tables" or metric.name in HEADLINES]
    tables = {
        "Main metrics": _table(run, first),
        "Further metrics": _table(run, [m for m in METRICS if m not in first]),
    }
    for network in further_networks(arms):
        tables[f"By {network}"] = _table(of_network(run, network), metrics_that_need("features"))
    return {
        "tables": {title: table for title, table in tables.items() if table},
        "arms": [
            {
                "name": name,
                "text": arm["strategy"],
                "reseeded": is_reseeded_baseline(arms, name),
                "inside": arm.get("guidance_inside"),
                "own": {what: arm[what] for what in ("draft", "sampling") if what in arm},
            }
            for name, arm in arms.items()
        ],
        "kinds": {name: sameness(arm)["kind"] for name, arm in arms.items() if BASELINE in arms and name != BASELINE},
        "warnings": {name: [text for text, names in warnings.items() if names == [name]] for name in arms},
        "shared": [{"arms": which(names, arms), "text": text} for text, names in warnings.items() if len(names) > 1],
        "simulated": [name for name in arms if is_simulated(arms[name])],
        "floor": None if floor is None else shown(FAR, floor),
        "network": other_network(arms),
        "against": next((arm["precision_recall_against"] for arm in arms.values() if "precision" in arm), None),
        "repeats": _repeats(run),
        "reference": real_images(run.metrics),
    }


def _table(run: Run, metrics: Sequence[Metric]) -> dict | None:
    """A table with a row per arm, and one for the reference if it has a value; None without any column.

    Columns that no arm has are left out.
    """
    having = {key for arm in run.arms.values() for key, value in arm.items() if value is not None}
    groups = {
        metric_title(metric, run): columns
        for metric in metrics
        if (columns := [column for column in metric.columns if column.title and column.key in having])
    }
    columns = [column for group in groups.values() for column in group]
    reference = run.metrics.get("reference") or {}
    rows = {name: [shown(column, arm) for column in columns] for name, arm in run.arms.items()}
    if any(column.key in reference for column in columns):
        count = reference["images"]
        name = f"reference: {count:,} real image{'' if count == 1 else 's'}"
        rows[name] = [shown(column, reference).replace(DASH, "") for column in columns]
    starts = [columns.index(group[0]) for group in groups.values()]
    return {"groups": groups, "starts": starts, "rows": rows} if columns else None


def _repeats(run: Run) -> dict | None:
    """Mean and range over the repeats of every metric that the tables show; None without repeats."""
    repeats = {name: arm["repeats"] for name, arm in run.arms.items() if "repeats" in arm}
    rows = [
        [name, title, *(shown(column, repeats[name][column.key][what]) for what in ("mean", "min", "max"))]
        for name in repeats
        for metric in METRICS
        for column in metric.columns
        if column.title and column.key in repeats[name]
        for title in [metric_title(metric, run) if column.title == metric.title else column.title]
    ]
    return {**next(iter(repeats.values())), "rows": rows} if rows else None
