"""The report page of a run: one self-contained HTML file made from what the run wrote, without any model."""

from pathlib import Path

from eval.report.distances import distances_context
from eval.report.grid import grid_context
from eval.report.repeat import repeat_context
from eval.report.run import load_run
from eval.report.scales import scales_context
from eval.report.table import table_context
from eval.report.tradeoff import tradeoff_context
from eval.report.verdict import verdict_context

# One entry a section, in the page's order: name of its template in templates/sections, title, and the function that
# turns a run into the template's values (None: the run has nothing to show there).
SECTIONS = (
    ("verdict", None, verdict_context),
    ("arms", "The arms in figures", table_context),
    ("distances", "Nearness in every measure", distances_context),
    ("grid", "Side by side", grid_context),
    ("scales", "Scale by scale", scales_context),
    ("tradeoff", "Distance against speed", tradeoff_context),
    ("repeat", "How to repeat this run", repeat_context),
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
