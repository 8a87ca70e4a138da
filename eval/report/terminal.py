"""The table that a run prints at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eval.report.words import which

COLUMNS = {  # title: key of an arm's figures, decimals
    "target\ncalls": ("target_calls_mean", 2),
    "draft\ncalls": ("draft_calls_mean", 2),
    "tokens as\nbaseline": ("token_agreement_with_baseline", 4),
    "near-\nties": ("near_tie_images", 0),
    "distance to\nbaseline": ("frechet_distance_to_baseline", 3),
    "distance to\nreference": ("frechet_distance_to_reference", 3),
    "kernel d.\nx 1000": ("kernel_inception_distance_to_reference_mean", 3),
    "PSNR of\ndiffering": ("psnr_mean", 2),
    "Inception\nScore": ("inception_score_mean", 2),
    "images/s\na process": ("images_per_second", 1),
    "speed": ("speed_relative_to_baseline", 2),
}
SCALES = {"kernel_inception_distance_to_reference_mean": 1000}
WIDTH = 150  # where stdout is no terminal


def print_table(metrics: dict[str, Any], report: Path) -> None:
    """Prints the arms side by side, what to beware of, and where the report is, to stdout.

    Args:
        metrics: as in metrics.json.
        report: the report's file.
    """
    arms = metrics["arms"]
    columns = {title: entry for title, entry in COLUMNS.items() if any(entry[0] in arm for arm in arms.values())}
    images = next(iter(arms.values()))["images"]
    table = Table(title=f"{images:,} images an arm", caption=_caption(metrics))
    table.add_column("arm", no_wrap=True)
    for title in columns:
        table.add_column(title, justify="right")
    for name, arm in arms.items():
        cells = ((arm.get(key), SCALES.get(key, 1), decimals) for key, decimals in columns.values())
        table.add_row(name, *(_cell(value and value * scale, decimals) for value, scale, decimals in cells))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
    warnings: dict[str, list[str]] = {}
    for name, arm in arms.items():
        for text in arm["warnings"]:
            warnings.setdefault(text, []).append(name)
    for text, names in warnings.items():
        console.print(f"warning ({which(names, arms)}): {text}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"report: {report}", soft_wrap=True, highlight=False, markup=False)


def _caption(metrics: dict[str, Any]) -> str:
    extractor = next((a["feature_extractor"] for a in metrics["arms"].values() if "feature_extractor" in a), None)
    environment = metrics["environment"]
    features = f"Distances and Inception Score by {extractor}; kernel distance to the reference. " if extractor else ""
    return (
        f"{features}speed: the baseline's time over the arm's, median of batches of {metrics['batch_size']}, on "
        f"{environment['device']}, threads {environment['threads']}"
    )


def _cell(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no minus before a zero
