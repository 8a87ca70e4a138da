"""The section on scales and rounds: agreement, acceptance by round, target calls, and where the time goes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.patches import Rectangle

from eval.report.plots import ACCENT, INK, LINES, MARKERS, add_legend, name_row, new_figure, to_svg
from eval.report.run import Run
from eval.report.tradeoff import shown_arms
from eval.report.words import compared_arms, is_reseeded_baseline, share

SHOWN = 6  # arms that the plots show; the tables list all
SIDE = "side of the scale, in tokens"
FAINTEST, STRONGEST = 0.05, 0.45  # opacity of a cell; text stays readable on all of them, in light and dark
PARTS = {  # colour and hatch of a part; hatches of lines alone keep the SVG small
    "draft": ("#e07b1f", "///"),
    "target": ("#2f7fd6", ""),
    "sampling": ("#1f9e89", "||"),
    "conditioning": ("#b5559f", "xx"),
    "tokenizer": ("#9a8f2a", "\\\\\\"),
    "other": ("#7b8794", "--"),
}


def section(run: Run) -> dict | None:
    """Values of the section's template; None where the sides of the scales are unknown.

    `groups` are lists of plots by name; the template has their headings and texts. A plot is a dict of `title`, `alt`,
    `svg`, `wide`, and `head` and `rows` of its table; the first cell of a row names it.
    """
    if not run.metrics.get("patch_nums"):
        return None
    groups = {
        "agreement": agreement_plots(run),
        "rounds": rounds_plots(run),
        "calls": calls_plots(run),
        "times": times_plots(run),
    }
    return {
        "groups": {name: plots for name, plots in groups.items() if plots},
        "left_out": len(compared_arms(run.arms)) > SHOWN,
        "shown": SHOWN,
    }


def _plot(title: str, svg: str, head: Sequence[str], rows: list[list[str]], wide: bool = False) -> dict:
    """A plot with its table, which is also its alternative text."""
    described = "; ".join(
        f"{name}: " + ", ".join(f"{column}: {cell}" for column, cell in zip(head[1:], cells) if cell)
        for name, *cells in rows
    )
    return {"title": title, "alt": f"{title}. {described}.", "svg": svg, "head": head, "rows": rows, "wide": wide}


def _sides(run: Run) -> list[str]:
    return [f"{side} \N{MULTIPLICATION SIGN} {side}" for side in run.metrics["patch_nums"]]


def _other_than_reseeded(run: Run) -> list[str]:
    return [arm for arm in run.arms if not is_reseeded_baseline(run.arms, arm)]


def agreement_plots(run: Run) -> list[dict]:
    """Agreeing tokens and accepted scales, by scale, one line per arm."""
    plots = []
    for key, title, ylabel in (
        ("agreement_per_scale", "Drafted tokens that match the target's choice", "matching tokens"),
        ("accepted_scales_per_scale", "Drafted scales that were accepted", "accepted scales"),
    ):
        lines = {arm: run.arms[arm][key] for arm in compared_arms(run.arms)}
        lines = {arm: values for arm, values in lines.items() if any(value is not None for value in values)}
        if lines:
            svg = _lines_svg(run, {arm: lines[arm] for arm in shown_arms(run, list(lines), SHOWN)}, ylabel, key)
            rows = [[arm, *map(share, values)] for arm, values in lines.items()]
            plots.append(_plot(title, svg, ["Arm", *_sides(run)], rows))
    return plots


def _lines_svg(run: Run, lines: dict[str, list[float | None]], ylabel: str, key: str) -> str:
    figure, (axes,) = new_figure(360, 280)
    sides, order = run.metrics["patch_nums"], list(run.arms)
    for arm, values in lines.items():
        index = order.index(arm)
        axes.plot(
            [math.nan if value is None else value for value in values],
            color=run.colours[arm],
            marker=MARKERS[index % len(MARKERS)],
            markersize=6,
            linewidth=1.8,
            linestyle=LINES[index % len(LINES)],
            label=arm,
        )
    axes.set_xticks(range(len(sides)), map(str, sides))
    axes.set_xlim(-0.3, len(sides) - 0.7)
    axes.set_ylim(-0.03, 1.05)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel(SIDE)
    axes.set_ylabel(ylabel)
    add_legend(figure, most=2)
    return to_svg(figure, key.replace("_", "-"))


def rounds_plots(run: Run) -> list[dict]:
    """A heat map of acceptance per arm that drafts."""
    having = [arm for arm in compared_arms(run.arms) if "drafted_rounds" in run.arms[arm]]
    plots = []
    for number, arm in enumerate(shown_arms(run, having, SHOWN)):
        drafted, accepted = (run.arms[arm][key] for key in ("drafted_rounds", "accepted_rounds"))
        rows = [
            [f"round {r}", *(f"{a:,} of {d:,}" if d else "" for d, a in zip(*pair))]
            for r, pair in enumerate(zip(drafted, accepted), 1)
        ]
        svg = _heat_svg(drafted, accepted, run.metrics["patch_nums"], f"rounds-{number}")
        plots.append(_plot(f"{arm}: accepted scales, by round", svg, ["Round", *_sides(run)], rows))
    return plots


def _heat_svg(drafted: list[list[int]], accepted: list[list[int]], sides: list[int], name: str) -> str:
    figure, (axes,) = new_figure(360, 62 + 38 * len(drafted))
    cells = [(r, k, of, accepted[r][k]) for r, row in enumerate(drafted) for k, of in enumerate(row) if of]
    for r, k, of, count in cells:
        alpha = FAINTEST + (STRONGEST - FAINTEST) * count / of
        axes.add_patch(Rectangle((k - 0.5, r - 0.5), 1, 1, facecolor=ACCENT, alpha=alpha, linewidth=0))
        percent = 100 * count / of if count in (0, of) else min(max(100 * count / of, 1), 99)
        axes.text(k, r - 0.14, f"{percent:.0f}", ha="center", va="center", color=INK, size=12)
        axes.text(k, r + 0.26, f"{of:,}", ha="center", va="center", color=INK, size=9)
    axes.set_xlim(-0.5, len(sides) - 0.5)
    axes.set_ylim(len(drafted) - 0.5, -0.5)
    axes.set_xticks(range(len(sides)), map(str, sides))
    axes.set_yticks(range(len(drafted)), [str(r + 1) for r in range(len(drafted))])
    axes.set_xlabel(SIDE)
    axes.set_ylabel("round")
    axes.grid(False)
    return to_svg(figure, name)


def calls_plots(run: Run) -> list[dict]:
    """The histogram of target calls, a row per arm."""
    counts = {arm: run.arms[arm]["target_calls_images"] for arm in _other_than_reseeded(run)}
    calls = range(min(next(c for c, value in enumerate(values) if value) for values in counts.values()),
                  max(map(len, counts.values())))  # fmt: skip
    rows = [[arm, *(f"{values[c]:,}" if c < len(values) and values[c] else "" for c in calls)]
            for arm, values in counts.items()]  # fmt: skip
    shown = {arm: counts[arm] for arm in shown_arms(run, list(counts), SHOWN)}
    return [_plot("Images by number of target calls", _calls_svg(run, shown, calls),
                  ["Arm", *(f"{c} calls" for c in calls)], rows, wide=True)]  # fmt: skip


def _calls_svg(run: Run, counts: dict[str, list[int]], calls: range) -> str:
    figure, rows = new_figure(360, 46 + 62 * len(counts), rows=len(counts))
    for axes, (arm, values) in zip(rows, counts.items()):
        having = [c for c, value in enumerate(values) if value]
        shares = [values[c] / sum(values) for c in having]
        bars = axes.bar(having, shares, 0.8, color=run.colours[arm], edgecolor=INK, linewidth=0.6)
        axes.bar_label(bars, [f"{values[c]:,}" for c in having], color=INK, size=11, padding=1)
        name_row(axes, arm)
        axes.set_ylim(0, 1.45)
        axes.set_yticks([])
        axes.grid(False)
        axes.spines["left"].set_visible(False)
    rows[-1].set_xlim(calls[0] - 0.6, calls[-1] + 0.6)
    rows[-1].set_xticks(calls)
    rows[-1].set_xlabel("target calls per image")
    return to_svg(figure, "calls")


def times_plots(run: Run) -> list[dict]:
    """Stacked bars of the time of each part, a row per arm."""
    stacks = {arm: _stacks(run.arms[arm]) for arm in _other_than_reseeded(run)}
    unit, factor = ("ms", 1000) if max(map(_highest, stacks.values())) < 1 else ("s", 1)

    def cell(seconds: float) -> str:
        value = seconds * factor
        return "" if not value else f"{value:.3g}" if value < 100 else f"{value:,.0f}"

    rows = [
        [f"{arm}, {part}", *map(cell, (*values, sum(values)))]
        for arm, of in stacks.items()
        for part, values in of.items()
    ]
    shown = {arm: stacks[arm] for arm in shown_arms(run, list(stacks), SHOWN)}
    title = f"Time per batch of {run.metrics['batch_size']}, in {unit}"
    svg = _times_svg(shown, run.metrics["patch_nums"], unit, factor)
    return [_plot(title, svg, ["Arm and part", *_sides(run), "no scale", "total"], rows, wide=True)]


def _stacks(arm: dict) -> dict[str, list[float]]:
    """Seconds by part: K scales and, last, no scale; parts that took none are left out."""
    stacks = {part: [*values, 0.0] for part, values in arm["seconds_per_scale"].items()}
    scales = len(stacks["target"]) - 1
    stacks |= {part: [*[0.0] * scales, value] for part, value in arm["seconds_of_no_scale"].items()}
    return {part: stacks[part] for part in PARTS if any(stacks[part])}


def _highest(stacks: dict[str, list[float]]) -> float:
    return max(map(sum, zip(*stacks.values())))


def _times_svg(stacks: dict[str, dict[str, list[float]]], sides: list[int], unit: str, factor: float) -> str:
    figure, rows = new_figure(400, 96 + 92 * len(stacks), rows=len(stacks))
    top = factor * max(map(_highest, stacks.values()))
    handles = {}
    for axes, (arm, of) in zip(rows, stacks.items()):
        bottom = [0.0] * (len(sides) + 1)
        for part, values in of.items():
            colour, hatch = PARTS[part]
            heights = [value * factor for value in values]
            handles[part] = axes.bar(range(len(heights)), heights, 0.75, bottom, color=colour, hatch=hatch,
                                     edgecolor=INK, linewidth=0.6)  # fmt: skip
            bottom = [low + height for low, height in zip(bottom, heights)]
        name_row(axes, arm)
        axes.set_ylim(0, 1.05 * top)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(unit)
    rows[-1].set_xticks(range(len(sides) + 1), [*map(str, sides), "none"])
    rows[-1].set_xlabel(SIDE)
    order = [part for part in PARTS if part in handles]
    handles = [handles[part] for part in order]
    add_legend(figure, handles, order, handlelength=1.4, columnspacing=1.2)
    return to_svg(figure, "times")
