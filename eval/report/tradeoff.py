"""The section that plots distance against speed: every arm a point with its intervals, the frontier a line."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from eval.report.plots import INK, LINE, MARKERS, MUTED, PAPER, lay_out, new_figure, to_svg
from eval.report.run import Run
from eval.report.words import (
    COLUMNS,
    FAR,
    SPEED,
    is_plain,
    is_reseeded_baseline,
    metric_names,
    noise_floor,
    sameness,
    shown,
    too_few_images,
)
from lightning_modules.run.names import BASELINE

NAMED = 8  # with more points than this they are numbered instead of named
Points = Mapping[str, tuple[float, float]]  # speed and distance by arm
Bars = Mapping[str, tuple[list[float], list[float]]]  # the intervals of both


def points(arms: dict[str, dict]) -> dict[str, tuple[float, float]]:
    """Speed (baseline 1) and distance to the baseline of the arms that have both; the baseline's own first.

    Left out are the baseline with other seeds, arms with a fault, and simulated ones, whose images are meaningless.
    """
    found = {BASELINE: (1.0, 0.0)} if BASELINE in arms else {}
    for name, arm in arms.items():
        speed, far = arm.get(SPEED), arm.get(FAR)
        if name == BASELINE or is_reseeded_baseline(arms, name) or speed is None or far is None:
            continue
        if sameness(arm)["kind"] not in ("fault", "simulated"):
            found[name] = (speed, max(far, 0.0))
    return found


def intervals(arms: dict[str, dict], of: Points) -> dict[str, tuple[list[float], list[float]]]:
    """The 95 % intervals of speed and distance; of a value without one its ends are the value itself."""
    bars = {}
    for name, point in of.items():
        keys = (COLUMNS[SPEED].interval_key, COLUMNS[FAR].interval_key)
        speed, far = (arms[name].get(key) or [value, value] for key, value in zip(keys, point))
        bars[name] = (speed, [max(bound, 0.0) for bound in far])
    return bars


def frontier(of: Points) -> list[str]:
    """The names that no other beats: none is as fast and closer, or as close and faster. The slowest first."""
    best, closest = [], float("inf")
    for name in sorted(of, key=lambda name: (-of[name][0], of[name][1])):
        if of[name][1] < closest:
            best.append(name)
            closest = of[name][1]
    return best[::-1]


def shown_arms(run: Run, names: list[str], most: int) -> list[str]:
    """At most this many of some arms, in their order: those on the frontier before the others."""
    first = frontier(points(run.arms))
    chosen = sorted(names, key=lambda name: name not in first)[:most]
    return [name for name in names if name in chosen]


def section(run: Run) -> dict | None:
    """Values of the section's template; None unless an arm has a speed and a distance."""
    found = points(run.arms)
    if len(found) < 2:
        return None
    label, floor, best = metric_names(run.arms)[0], noise_floor(run.arms), frontier(found)
    plain = [name for name in found if is_plain(run.arms[name])]
    bars = intervals(run.arms, found)
    rows = [
        {
            "number": number,
            "name": name,
            "speed": _with_interval(SPEED, speed, bars[name][0]),
            "far": _with_interval(FAR, far, bars[name][1]),
            "best": name in best,
        }
        for number, (name, (speed, far)) in enumerate(found.items(), 1)
    ]
    summary = "; ".join(f"{row['name']} {row['speed']} times as fast, {row['far']}" for row in rows)
    return {
        "svg": _svg(found, bars, best, plain, run.colours, floor, label.partition(" (")[0]),
        "label": label,
        "alt": f"{label} to the baseline against speed: {summary}; noise floor {shown(FAR, floor)}. On the frontier: "
        f"{', '.join(best)}.",
        "floor": floor,
        "few": too_few_images(run.arms),
        "rows": rows,
        "best": best,
        "plain": [name for name in plain if name != BASELINE],
        "crowded": len(found) > NAMED,
    }


def _with_interval(key: str, value: float, interval: list[float]) -> str:
    return shown(key, value if interval[0] == interval[1] else {key: value, COLUMNS[key].interval_key: interval})


def _svg(
    found: Points,
    bars: Bars,
    best: list[str],
    plain: list[str],
    colours: Mapping[str, str],
    floor: float | None,
    label: str,
) -> str:
    """The plot: arms on the frontier are filled and joined by a line, models that decode alone are small dots."""
    crowded = len(found) > NAMED
    figure, (axes,) = new_figure(*((560, 440) if crowded else (400, 320)))
    _limit(axes, bars, floor)
    lines: list[Artist] = []
    if floor is not None:
        axes.axhspan(axes.get_ylim()[0], floor, color=MUTED, alpha=0.12, linewidth=0)
        lines.append(axes.axhline(floor, color=MUTED, linewidth=1.2, linestyle="--"))
        corner = (axes.get_xlim()[0], floor)
        text = f"noise floor {shown(FAR, floor)}"
        lines.append(axes.annotate(text, corner, (4, 4), textcoords="offset points", color=MUTED, size=11))
    axes.axvline(1, color=LINE, linewidth=1.2)
    axes.plot(*zip(*(found[name] for name in best)), color=INK, linewidth=1.4, zorder=1.5)
    for name, (speed, far) in found.items():
        colour = INK if name in plain else colours[name]
        for ends in (zip(bars[name][0], (far, far)), zip((speed, speed), bars[name][1])):
            lines += axes.plot(*zip(*ends), color=colour, linewidth=1.4, alpha=0.6, zorder=1.6)
    for index, (name, point) in enumerate(found.items()):
        if name in plain:
            axes.plot(*point, marker="o", markersize=5, color=INK)
            continue
        face = colours[name] if name in best else PAPER
        axes.plot(*point, marker=MARKERS[index % len(MARKERS)], markersize=9, color=face,
                  markeredgecolor=colours[name], markeredgewidth=1.8)  # fmt: skip
    axes.set_xlabel("speed, baseline = 1")
    axes.set_ylabel(f"{label} to the baseline")
    texts = {name: str(number) if crowded else name for number, name in enumerate(found, 1)}
    _label_points(figure, axes, found, texts, lines)
    return to_svg(figure, "tradeoff")


def _limit(axes: Axes, bars: Bars, floor: float | None) -> None:
    speeds, far = ([bound for interval in intervals for bound in interval] for intervals in zip(*bars.values()))
    top = max(*far, floor or 0) or 1
    margin = 0.25 * max(max(speeds) - min(speeds), 0.4)
    axes.set_xlim(max(min(speeds) - margin, 0), max(speeds) + margin)
    if floor and top > 20 * floor:  # otherwise one bad arm presses all others onto the axis
        axes.set_yscale("symlog", linthresh=floor)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(-0.3 * floor, 2 * top)
    else:
        axes.set_ylim(-0.07 * top, 1.15 * top)


def _label_points(figure: Figure, axes: Axes, found: Points, texts: Mapping[str, str], drawn: list[Artist]) -> None:
    """Writes each point's text beside it, where it covers no other text, no point, and nothing drawn before."""
    lay_out(figure)
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in map(axes.transData.transform, found.values())]
    taken += [artist.get_window_extent() for artist in drawn]
    frame = axes.get_window_extent()
    heights = (14, -14, 28, -28, 42, -42)
    places = [(9, 0, "left"), (-9, 0, "right"), *((0, dy, "center") for dy in heights)]
    places += [(dx, dy, align) for dy in heights for dx, align in ((18, "left"), (-18, "right"))]
    for name, point in found.items():
        text = axes.annotate(
            texts[name], point, (0, 0), textcoords="offset points", va="center", color=INK, size=11, zorder=3,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5},  # no line strikes it out
        )  # fmt: skip
        for dx, dy, align in places:
            text.set(position=(dx, dy), ha=align)
            box = text.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
