"""The report's plots: SVG in the page's own colours and fonts, so that they follow light and dark."""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING

from eval.report_verdict import (
    BASELINE,
    compared_arms,
    distance,
    is_reseeded_baseline,
    metric_names,
    noise_floor,
    share,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from eval.report import Run

# Stand-ins that matplotlib understands; in the page they become its variables.
PAGE_COLOURS = {"#010203": "var(--ink)", "#010204": "var(--muted)", "#010205": "var(--line)", "#010206": "var(--paper)"}
INK, MUTED, LINE, PAPER = PAGE_COLOURS
MARKERS = "os^Dv*PX"
LEGEND_INSIDE = 8  # more lines than this have their names below the plot


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure in the page's style.

    Args:
        width: in points of 1/72 inch.
        height: in points.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
    FigureCanvasAgg(figure)  # measures text
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=11, length=3)
    axes.xaxis.label.set(color=INK, size=11)
    axes.yaxis.label.set(color=INK, size=11)
    axes.grid(True, color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def to_svg(figure: Figure, name: str) -> str:
    """A figure as an inline SVG element.

    Args:
        figure: drawn with `new_figure`.
        name: unique on the page; keeps the identifiers of two figures apart.
    """
    from markupsafe import Markup
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
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


def _drafting_arms(run: Run, key: str) -> dict[str, list[float | None]]:
    """A figure per scale of the arms that have it at any scale."""
    values = {arm: run.arms[arm].get(key) or [] for arm in compared_arms(run.arms)}
    return {arm: row for arm, row in values.items() if any(value is not None for value in row)}


def _per_scale(run: Run, key: str, ylabel: str, name: str) -> str:
    lines = _drafting_arms(run, key)
    crowded = len(lines) > LEGEND_INSIDE
    figure, axes = new_figure(400, 270 + (9 * len(lines) if crowded else 0))
    sides = run.metrics["patch_nums"]
    for index, (arm, values) in enumerate(lines.items()):
        axes.plot(
            range(len(sides)),
            [math.nan if value is None else value for value in values],
            color=run.colours[arm],
            marker=MARKERS[index % len(MARKERS)],
            markersize=6,
            linewidth=1.8,
            linestyle=("-", "--", "-.", ":")[index % 4],
            label=arm,
        )
    axes.set_xticks(range(len(sides)), [str(side) for side in sides])
    axes.set_xlim(-0.3, len(sides) - 0.7)
    axes.set_ylim(-0.03, 1.05)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("side of the scale, in tokens")
    axes.set_ylabel(ylabel)
    if crowded:
        figure.legend(frameon=False, labelcolor=INK, fontsize=9, loc="outside lower center", ncols=2)
    else:
        axes.legend(frameon=False, labelcolor=INK, fontsize=11, loc="best")
    return to_svg(figure, name)


def scales_context(run: Run) -> dict | None:
    """Agreement and acceptance per scale, as plots and as figures; None without drafting arms or known sides."""
    if not run.metrics.get("patch_nums"):
        return None
    plots = []
    for key, title, ylabel in (
        ("agreement_per_scale", "Drafted tokens that the target would have picked too", "agreeing tokens"),
        ("accepted_scales_per_scale", "Drafted scales that stood as a whole", "accepted scales"),
    ):
        rows = {arm: [share(value) for value in values] for arm, values in _drafting_arms(run, key).items()}
        if rows:
            plots.append({"title": title, "rows": rows, "svg": _per_scale(run, key, ylabel, key.replace("_", "-"))})
    return {"plots": plots, "sides": run.metrics["patch_nums"]} if plots else None


def tradeoff_context(run: Run) -> dict | None:
    """Distance to the baseline against speed, with the noise floor; None without both figures."""
    points = {BASELINE: (1.0, 0.0)} if BASELINE in run.arms else {}
    for name, arm in run.arms.items():
        speed, far = arm.get("speed_relative_to_baseline"), arm.get("frechet_distance_to_baseline")
        if name != BASELINE and not is_reseeded_baseline(run.arms, name) and speed is not None and far is not None:
            points[name] = (speed, max(far, 0.0))
    if len(points) < 2:
        return None
    label, floor = metric_names(run.arms)[0], noise_floor(run.arms)
    figure, axes = new_figure(420, 310)
    top = max(max(far for _, far in points.values()), floor or 0) or 1
    fastest, slowest = max(speed for speed, _ in points.values()), min(speed for speed, _ in points.values())
    margin = 0.25 * max(fastest - slowest, 0.4)
    axes.set_xlim(max(slowest - margin, 0), fastest + margin)
    if floor and top > 20 * floor:  # otherwise one bad arm presses all others onto the axis
        axes.set_yscale("symlog", linthresh=floor)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(-0.3 * floor, 2 * top)
    else:
        axes.set_ylim(-0.07 * top, 1.15 * top)
    if floor is not None:
        axes.axhspan(axes.get_ylim()[0], floor, color=MUTED, alpha=0.12, linewidth=0)
        axes.axhline(floor, color=MUTED, linewidth=1.2, linestyle="--")
        right = axes.get_xlim()[1]
        text = f"noise floor {distance(floor)}"
        axes.annotate(text, (right, floor), (-4, 4), textcoords="offset points", ha="right", color=MUTED, size=11)
    axes.axvline(1, color=LINE, linewidth=1.2)
    for index, (name, point) in enumerate(points.items()):
        marker = MARKERS[index % len(MARKERS)]
        axes.plot(*point, marker=marker, markersize=9, color=run.colours[name], markeredgecolor=PAPER, linestyle="")
    axes.set_xlabel("speed, baseline = 1")
    axes.set_ylabel(f"{label.split(' (')[0]} to the baseline")
    _label_points(figure, axes, points)
    summary = "; ".join(f"{name} {speed:.2f} times as fast, {distance(far)}" for name, (speed, far) in points.items())
    return {
        "svg": to_svg(figure, "tradeoff"),
        "label": label,
        "alt": f"{label} to the baseline against speed: {summary}; noise floor {distance(floor)}.",
        "floor": distance(floor) if floor is not None else None,
    }


def _label_points(figure: Figure, axes: Axes, points: dict[str, tuple[float, float]]) -> None:
    """Writes each point's name beside it, where it covers neither another name nor another point."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    centres = [axes.transData.transform(point) for point in points.values()]
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in centres]
    frame = axes.get_window_extent(renderer)
    places = [(9, 0, "left"), (-9, 0, "right"), *((0, dy, "center") for dy in (14, -14, 28, -28, 42))]
    for name, point in points.items():
        for dx, dy, align in places:
            text = axes.annotate(
                name, point, (dx, dy), textcoords="offset points", ha=align, va="center", color=INK, size=11
            )
            box = text.get_window_extent(renderer)
            free = frame.x0 <= box.x0 and box.x1 <= frame.x1 and not any(box.overlaps(other) for other in taken)
            if free or (dx, dy, align) == places[-1]:
                taken.append(box)
                break
            text.remove()
