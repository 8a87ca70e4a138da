"""The report's section on scales: agreement, acceptance by round, target calls, and where the time goes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eval.report.frontier import shown_arms
from eval.report.plots import INK, LINES, MARKERS, SHOWN, new_figure, to_svg
from eval.report.rounds import calls_plot, rounds_plots
from eval.report.times import times_plots
from eval.report.words import compared_arms, share, side_by_side

if TYPE_CHECKING:
    from eval.report.run import Run


def scales_context(run: Run) -> dict | None:
    """Values of the section's template; None where the run recorded none of it, or its scales' sides are unknown.

    Each plot is a dict: `title`, `alt`, `svg`, and `table`: `head`, the titles of its columns, and `rows` of cells, the
    first of which names the row. A group holds plots, what is to be known to read them, and a heading.
    """
    if not run.metrics.get("patch_nums"):
        return None
    groups = [
        {
            "title": "Agreement and acceptance",
            "text": "Coarse scales hold few tokens and are easy to guess; a scale stands only where its acceptance "
            "rule says so, so fine scales rarely stand whole.",
            "plots": _agreement_plots(run),
        },
        {
            "title": "Acceptance by round",
            "text": "A round is one verification by the target. A cell says how many per cent of the drafted scales "
            "that were judged in that round stood, and below it how many were judged.",
            "plots": rounds_plots(run),
        },
        {
            "title": "Target calls an image",
            "text": "Every arm's images by the target calls that they took.",
            "plots": calls_plot(run),
        },
        {
            "title": "Time per scale",
            "text": "Mean time of a batch, stacked: what drafting, verifying and sampling took at each scale, and what "
            "is of no scale: the models' conditioning, the tokenizer's decoder, and the rest. A pass over several "
            "scales is shared among them by their tokens.",
            "plots": times_plots(run),
        },
    ]
    groups = [group for group in groups if group["plots"]]
    left_out = len(compared_arms(run.arms)) - SHOWN
    return {"groups": groups, "left_out": max(left_out, 0), "shown": SHOWN} if groups else None


def _agreement_plots(run: Run) -> list[dict]:
    """Agreeing tokens and standing scales by scale, a line an arm."""
    plots = []
    sides = run.metrics["patch_nums"]
    for key, title, ylabel in (
        ("agreement_per_scale", "Drafted tokens that the target would have picked too", "agreeing tokens"),
        ("accepted_scales_per_scale", "Drafted scales that stood as a whole", "accepted scales"),
    ):
        lines = {arm: run.arms[arm].get(key) or [] for arm in compared_arms(run.arms)}
        lines = {arm: values for arm, values in lines.items() if any(value is not None for value in values)}
        if not lines:
            continue
        rows = [[arm, *map(share, values)] for arm, values in lines.items()]
        spoken = "; ".join(
            f"{arm}: " + ", ".join(f"{side}: {cell}" for side, cell in zip(sides, cells)) for arm, *cells in rows
        )
        plots.append(
            {
                "title": title,
                "alt": f"{title}, by side of the scale. {spoken}.",
                "svg": _lines_svg(run, {arm: lines[arm] for arm in shown_arms(run, list(lines), SHOWN)}, ylabel, key),
                "table": {"head": ["Arm", *map(side_by_side, sides)], "rows": rows},
            }
        )
    return plots


def _lines_svg(run: Run, lines: dict[str, list[float | None]], ylabel: str, key: str) -> str:
    figure, (axes,) = new_figure(360, 280)
    sides, order = run.metrics["patch_nums"], list(run.arms)
    for arm, values in lines.items():
        index = order.index(arm)
        axes.plot(
            range(len(sides)),
            [math.nan if value is None else value for value in values],
            color=run.colours[arm],
            marker=MARKERS[index % len(MARKERS)],
            markersize=6,
            linewidth=1.8,
            linestyle=LINES[index % len(LINES)],
            label=arm,
        )
    axes.set_xticks(range(len(sides)), [str(side) for side in sides])
    axes.set_xlim(-0.3, len(sides) - 0.7)
    axes.set_ylim(-0.03, 1.05)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("side of the scale, in tokens")
    axes.set_ylabel(ylabel)
    figure.legend(frameon=False, labelcolor=INK, fontsize=11, loc="outside upper left", ncols=2)
    return to_svg(figure, key.replace("_", "-"))
