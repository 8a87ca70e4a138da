"""The report's plot of distance against speed: every arm a point, the frontier a line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from eval.report.frontier import frontier, points
from eval.report.plots import INK, LINE, MARKERS, MUTED, PAPER, new_figure, to_svg
from eval.report.words import BASELINE, distance, is_plain, metric_names, noise_floor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from eval.report.run import Run

NAMED = 8  # more points than this have numbers instead of names


def tradeoff_context(run: Run) -> dict | None:
    """Values of the plot's template; None without an arm that has both figures."""
    found = points(run.arms)
    if len(found) < 2:
        return None
    label, floor = metric_names(run.arms)[0], noise_floor(run.arms)
    best = frontier(found)
    plain = [name for name in found if is_plain(run.arms[name])]
    rows = [
        {
            "number": number,
            "name": name,
            "speed": f"{found[name][0]:.2f}",
            "far": distance(found[name][1]),
            "best": name in best,
            "plain": name in plain,
        }
        for number, name in enumerate(found, 1)
    ]
    summary = "; ".join(f"{row['name']} {row['speed']} times as fast, {row['far']}" for row in rows)
    return {
        "svg": tradeoff_svg(found, best, plain, run.colours, floor, label),
        "label": label,
        "alt": f"{label} to the baseline against speed: {summary}; noise floor {distance(floor)}. On the frontier: "
        f"{', '.join(best)}.",
        "floor": distance(floor) if floor is not None else None,
        "rows": rows,
        "best": best,
        "plain": [name for name in plain if name != BASELINE],
        "crowded": len(found) > NAMED,
    }


def tradeoff_svg(
    found: Mapping[str, tuple[float, float]],
    best: Collection[str],
    plain: Collection[str],
    colours: Mapping[str, str],
    floor: float | None,
    label: str,
) -> str:
    """The plot, as an inline SVG element.

    Args:
        found: speed and distance by arm.
        best: the arms on the frontier, the slowest first: filled, and joined by a line.
        plain: arms of one model alone: small dots.
        colours: by arm.
        floor: distance between two samples of the baseline, if it is known.
        label: name of the distance.
    """
    crowded = len(found) > NAMED
    figure, (axes,) = new_figure(*((560, 440) if crowded else (400, 320)))
    _limit(axes, found, floor)
    if floor is not None:
        axes.axhspan(axes.get_ylim()[0], floor, color=MUTED, alpha=0.12, linewidth=0)
        axes.axhline(floor, color=MUTED, linewidth=1.2, linestyle="--")
        right = axes.get_xlim()[1]
        text = f"noise floor {distance(floor)}"
        axes.annotate(text, (right, floor), (-4, 4), textcoords="offset points", ha="right", color=MUTED, size=11)
    axes.axvline(1, color=LINE, linewidth=1.2)
    axes.plot(*zip(*(found[name] for name in best)), color=INK, linewidth=1.4, zorder=1.5)
    for index, (name, point) in enumerate(found.items()):
        if name in plain:
            axes.plot(*point, marker="o", markersize=5, color=INK, linestyle="")
            continue
        face = colours[name] if name in best else PAPER
        axes.plot(*point, marker=MARKERS[index % len(MARKERS)], markersize=9, color=face, linestyle="",
                  markeredgecolor=colours[name], markeredgewidth=1.8)  # fmt: skip
    axes.set_xlabel("speed, baseline = 1")
    axes.set_ylabel(f"{label.split(' (')[0]} to the baseline")
    _label_points(figure, axes, found, {name: str(number) if crowded else name for number, name in enumerate(found, 1)})
    return to_svg(figure, "tradeoff")


def _limit(axes: Axes, found: Mapping[str, tuple[float, float]], floor: float | None) -> None:
    speeds, far = zip(*found.values())
    top = max(*far, floor or 0) or 1
    margin = 0.25 * max(max(speeds) - min(speeds), 0.4)
    axes.set_xlim(max(min(speeds) - margin, 0), max(speeds) + margin)
    if floor and top > 20 * floor:  # otherwise one bad arm presses all others onto the axis
        axes.set_yscale("symlog", linthresh=floor)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(-0.3 * floor, 2 * top)
    else:
        axes.set_ylim(-0.07 * top, 1.15 * top)


def _label_points(
    figure: Figure, axes: Axes, found: Mapping[str, tuple[float, float]], texts: Mapping[str, str]
) -> None:
    """Writes each point's text beside it, where it covers neither another text nor another point."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    centres = [axes.transData.transform(point) for point in found.values()]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in centres]
    frame = axes.get_window_extent(renderer)
    sides = [(9, "left"), (-9, "right")]
    heights = (14, -14, 28, -28, 42, -42)
    places = [*((dx, 0, align) for dx, align in sides), *((0, dy, "center") for dy in heights)]
    places += [(2 * dx, dy, align) for dy in heights for dx, align in sides]
    for name in found:
        for dx, dy, align in places:
            text = axes.annotate(
                texts[name],
                found[name],
                (dx, dy),
                textcoords="offset points",
                ha=align,
                va="center",
                color=INK,
                size=11,
            )
            box = text.get_window_extent(renderer)
            free = frame.x0 <= box.x0 and box.x1 <= frame.x1 and not any(box.overlaps(other) for other in taken)
            if free or (dx, dy, align) == places[-1]:
                taken.append(box)
                break
            text.remove()
