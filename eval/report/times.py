"""The report's plots of time: for each arm, what each part took at each scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.report.frontier import shown_arms
from eval.report.plots import INK, SHOWN, name_row, new_figure, to_svg
from eval.report.words import is_reseeded_baseline, side_by_side

if TYPE_CHECKING:
    from eval.report.run import Run

PARTS = {  # title, colour, hatch: of a part; hatches of lines alone keep the SVG small
    "draft": ("draft", "#e07b1f", "///"),
    "target": ("target, verifying", "#2f7fd6", ""),
    "sampling": ("sampling", "#1f9e89", "||"),
    "conditioning": ("conditioning", "#b5559f", "xx"),
    "tokenizer": ("tokenizer", "#9a8f2a", "\\\\\\"),
    "other": ("other", "#7b8794", "--"),
}


def times_plots(run: Run) -> list[dict]:
    """Stacked bars, a row an arm: see `eval.report.scales.scales_context`."""
    arms = [arm for arm in run.arms if not is_reseeded_baseline(run.arms, arm)]
    stacks = {arm: _stacks(run.arms[arm]) for arm in arms if run.arms[arm].get("seconds_per_scale")}
    if not stacks:
        return []
    sides = run.metrics["patch_nums"]
    unit, factor = ("ms", 1000) if max(map(_highest, stacks.values())) < 1 else ("s", 1)

    def figure(value: float) -> str:
        return f"{value * factor:.3g}" if value * factor < 100 else f"{value * factor:,.0f}"

    def cells(values: list[float]) -> list[str]:
        return [figure(value) if value else "" for value in (*values, sum(values))]

    rows = [[f"{arm}, {PARTS[part][0]}", *cells(values)] for arm, of in stacks.items() for part, values in of.items()]
    spoken = "; ".join(
        f"{arm}: " + ", ".join(f"{PARTS[part][0]} {figure(sum(values))} {unit}" for part, values in of.items())
        for arm, of in stacks.items()
    )
    shown = {arm: stacks[arm] for arm in shown_arms(run, list(stacks), SHOWN)}
    return [
        {
            "title": f"Time of a batch of {run.metrics['batch_size']}, by scale and part",
            "alt": f"Mean time of a batch by part, all scales together. {spoken}.",
            "svg": _svg(shown, sides, unit, factor),
            "table": {
                "head": [f"{unit} a batch", *map(side_by_side, sides), "none", "all"],
                "rows": rows,
            },
            "wide": True,
        }
    ]


def _stacks(arm: dict) -> dict[str, list[float]]:
    """Seconds by part: K scales and, last, no scale; parts that took none are left out."""
    stacks = {part: [*values, 0.0] for part, values in arm["seconds_per_scale"].items()}
    scales = len(stacks["target"]) - 1
    stacks |= {part: [*[0.0] * scales, value] for part, value in arm["seconds_of_no_scale"].items()}
    return {part: stacks[part] for part in PARTS if any(stacks[part])}


def _highest(stacks: dict[str, list[float]]) -> float:
    return max(map(sum, zip(*stacks.values())))


def _svg(stacks: dict[str, dict[str, list[float]]], sides: list[int], unit: str, factor: float) -> str:
    figure, rows = new_figure(400, 96 + 92 * len(stacks), rows=len(stacks))
    top = factor * max(map(_highest, stacks.values()))
    handles = {}
    for axes, (arm, of) in zip(rows, stacks.items()):
        bottom = [0.0] * (len(sides) + 1)
        for part, values in of.items():
            title, colour, hatch = PARTS[part]
            heights = [value * factor for value in values]
            handles[title] = axes.bar(range(len(heights)), heights, 0.75, bottom, color=colour, hatch=hatch,
                                      edgecolor=INK, linewidth=0.6, label=title)  # fmt: skip
            bottom = [low + height for low, height in zip(bottom, heights)]
        name_row(axes, arm)
        axes.set_ylim(0, 1.05 * top)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(unit)
    rows[-1].set_xticks(range(len(sides) + 1), [*map(str, sides), "none"])
    rows[-1].set_xlabel("side of the scale, in tokens; none: work of no scale")
    order = [title for title, *_ in PARTS.values() if title in handles]
    figure.legend(
        [handles[title] for title in order], order, frameon=False, labelcolor=INK, fontsize=11,
        loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.2,
    )  # fmt: skip
    return to_svg(figure, "times")
