"""What the report's plots share: SVG in the page's own colours and fonts, so that they follow light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Placeholders that matplotlib understands; in the page they become its variables.
PAGE_COLOURS = {
    "#010203": "var(--ink)",
    "#010204": "var(--muted)",
    "#010205": "var(--line)",
    "#010206": "var(--paper)",
    "#010207": "var(--accent)",
}
INK, MUTED, LINE, PAPER, ACCENT = PAGE_COLOURS
MARKERS = "os^Dv*P"  # one fewer than there are colours: the pairs repeat after 56 arms
LINES = ("-", "--", "-.", ":")
LEGEND = {"frameon": False, "labelcolor": INK, "fontsize": 11, "loc": "outside upper left"}


def new_figure(width: float, height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure in the page's style.

    Args:
        width: in points of 1/72 inch.
        height: in points.
        rows: plots below each other, with one x-axis.

    Returns:
        The figure and the axes of each row.
    """
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none", layout="constrained")
    FigureCanvasAgg(figure)  # measures text
    column = list(figure.subplots(rows, sharex=True, squeeze=False)[:, 0])
    for axes in column:
        axes.set_facecolor("none")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[:].set_color(LINE)
        axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=11, length=3)
        axes.xaxis.label.set(color=INK, size=11)
        axes.yaxis.label.set(color=INK, size=11)
        axes.grid(True, color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, column


def name_row(axes: Axes, name: str) -> None:
    """Writes an arm's name above its plot."""
    axes.set_title(name, loc="left", color=INK, size=11, pad=3)


def add_legend(figure: Figure, *entries: Sequence, most: int = 3, **options: object) -> None:
    """A legend above the plots in as many columns as fit into the figure's width.

    Args:
        figure: with its plots.
        entries: handles and texts; none for those of the plots.
        most: columns.
        options: of `matplotlib.figure.Figure.legend`.
    """
    renderer = figure.canvas.get_renderer()
    for columns in range(most, 0, -1):
        legend = figure.legend(*entries, **LEGEND | options, ncols=columns)
        if columns == 1 or legend.get_window_extent(renderer).width <= figure.bbox.width:
            return
        legend.remove()


def lay_out(figure: Figure) -> None:
    """Places the plots as they will be drawn, so that positions can be read."""
    figure.get_layout_engine().execute(figure)


def to_svg(figure: Figure, name: str) -> str:
    """A figure as an inline SVG element.

    Args:
        figure: drawn with `new_figure`.
        name: unique on the page; keeps the identifiers of two figures apart.
    """
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        # savefig draws a figure with a layout engine twice
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'aria-hidden="true" focusable="false"', svg, count=1)
    for stand_in, variable in PAGE_COLOURS.items():
        svg = svg.replace(stand_in, variable)
    return Markup(svg)
