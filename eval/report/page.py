"""The report page of a run: one self-contained HTML file made from what the run wrote, without any model."""

import logging
from importlib import import_module
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.report.run import load_run
from lightning_modules.run.names import REPORT
from sdvar.system.atomic import write_atomically

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where no home folder can keep its fonts

# In the page's order. Each names a module here whose `section(run)` returns the values of the template of the same
# name in templates/sections, or None where the run has nothing to show.
SECTIONS = ("verdict", "table", "classes", "grid", "scales", "tradeoff", "reproduce")


def write_report(out: Path | str) -> Path:
    """Writes `report.html` into a run's folder.

    Args:
        out: folder with metrics.json, config.yaml, and a manifest and images per arm.

    Returns:
        The page's path.

    Raises:
        ValueError: the folder is not that of a finished and measured run.
    """
    run = load_run(out)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    bodies = []
    for name in SECTIONS:
        values = import_module(f"eval.report.{name}").section(run)
        if values is not None:
            template = environment.get_template(f"sections/{name}.html.j2")
            bodies.append(template.render(name=name, run=run, **values))
    path = run.out / REPORT
    page = environment.get_template("report.html.j2").render(run=run, sections=bodies)
    write_atomically(path, page.encode())
    return path
