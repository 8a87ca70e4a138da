"""The report page of a run: one self-contained HTML file made from what the run wrote, without any model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval import (
    report_distances,
    report_grid,
    report_repeat,
    report_scales,
    report_table,
    report_tradeoff,
    report_verdict,
)

ARM_COLOURS = ("#7b8794", "#2f7fd6", "#e07b1f", "#1f9e89", "#b5559f", "#9a8f2a", "#d1495b", "#5e6ad2")


@dataclass(frozen=True)
class Run:
    """A finished run, as its folder tells it.

    Attributes:
        out: the run's folder.
        metrics: contents of metrics.json.
        config_text: config.yaml, word for word; empty for images that were made without one.
        colours: a colour for each arm, the same all over the page.
    """

    out: Path
    metrics: dict[str, Any]
    config_text: str
    colours: dict[str, str]

    @property
    def arms(self) -> dict[str, dict]:
        """The figures of every arm, in the run's order."""
        return self.metrics["arms"]

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes, if the run knew them."""
        return self.metrics.get("class_names")


def load_run(out: Path | str) -> Run:
    """Reads a run's folder.

    Raises:
        ValueError: the folder does not hold a finished run.
    """
    out = Path(out)
    if not (out / "metrics.json").is_file():
        raise ValueError(f"{out} holds no metrics.json; a report needs the folder of a finished and measured run")
    try:
        metrics = json.loads((out / "metrics.json").read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{out / 'metrics.json'} is no valid JSON ({error}); measure the run again") from None
    if not metrics.get("arms"):
        raise ValueError(f"{out / 'metrics.json'} holds no arms; measure the run again")
    colours = {name: ARM_COLOURS[index % len(ARM_COLOURS)] for index, name in enumerate(metrics["arms"])}
    config = out / "config.yaml"
    return Run(out, metrics, config.read_text() if config.is_file() else "", colours)


# One entry a section, in the page's order: name of its template in templates/sections, title, and the function that
# turns a run into the template's values (None: the run has nothing to show there).
SECTIONS = (
    ("verdict", None, report_verdict.verdict_context),
    ("arms", "The arms in figures", report_table.table_context),
    ("distances", "Nearness in every measure", report_distances.distances_context),
    ("grid", "Side by side", report_grid.grid_context),
    ("scales", "Scale by scale", report_scales.scales_context),
    ("tradeoff", "Distance against speed", report_tradeoff.tradeoff_context),
    ("repeat", "How to repeat this run", report_repeat.repeat_context),
)


def write_report(out: Path | str) -> Path:
    """Writes `report.html` into a run's folder.

    Args:
        out: folder with metrics.json, config.yaml, and a manifest and images for each arm.

    Returns:
        The page's path.

    Raises:
        ValueError: the folder does not hold a finished run.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    run = load_run(out)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = []
    for name, title, context in SECTIONS:
        values = context(run)
        if values is not None:
            body = environment.get_template(f"sections/{name}.html.j2").render(run=run, **values)
            sections.append({"name": name, "title": title, "body": body})
    page = environment.get_template("report.html.j2").render(run=run, sections=sections)
    path = run.out / "report.html"
    partial = path.with_suffix(".html.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path
