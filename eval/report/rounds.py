"""The report's plots of rounds: a heat map of acceptance for each arm, and the target calls of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.report.frontier import shown_arms
from eval.report.plots import ACCENT, INK, SHOWN, name_row, new_figure, to_svg
from eval.report.words import compared_arms, is_reseeded_baseline, side_by_side

if TYPE_CHECKING:
    from eval.report.run import Run

FAINTEST, STRONGEST = 0.05, 0.45  # opacity of a cell; text stays readable on all of them, in light and dark


def rounds_plots(run: Run) -> list[dict]:
    """A heat map for each arm that recorded its rounds: see `eval.report.scales.scales_context`."""
    having = [arm for arm in compared_arms(run.arms) if run.arms[arm].get("drafted_rounds")]
    return [_rounds_plot(run, arm, number) for number, arm in enumerate(shown_arms(run, having, SHOWN))]


def _rounds_plot(run: Run, arm: str, number: int) -> dict:
    drafted, accepted = (run.arms[arm][key] for key in ("drafted_rounds", "accepted_rounds"))
    sides = run.metrics["patch_nums"]
    rows = [
        [f"round {r + 1}", *(f"{a:,} of {d:,}" if d else "" for d, a in zip(*pair))]
        for r, pair in enumerate(zip(drafted, accepted))
    ]
    spoken = "; ".join(
        f"{name}: " + ", ".join(f"{side}: {cell}" for side, cell in zip(sides, cells) if cell) for name, *cells in rows
    )
    return {
        "title": f"{arm}: scales that stood, by round",
        "alt": f"Drafted scales that stood of those judged, {arm}, by round and side of the scale. {spoken}.",
        "svg": _heat_svg(drafted, accepted, sides, f"rounds-{number}"),
        "table": {"head": ["Round", *map(side_by_side, sides)], "rows": rows},
    }


def _heat_svg(drafted: list[list[int]], accepted: list[list[int]], sides: list[int], name: str) -> str:
    from matplotlib.patches import Rectangle

    figure, (axes,) = new_figure(360, 62 + 38 * len(drafted))
    for r, (judged, stood) in enumerate(zip(drafted, accepted)):
        for k, (of, count) in enumerate(zip(judged, stood)):
            if not of:
                continue
            share = count / of
            alpha = FAINTEST + (STRONGEST - FAINTEST) * share
            axes.add_patch(Rectangle((k - 0.5, r - 0.5), 1, 1, facecolor=ACCENT, alpha=alpha, linewidth=0))
            text = f"{100 * share:.0f}" if share in (0, 1) else f"{min(max(100 * share, 1), 99):.0f}"
            axes.text(k, r - 0.14, text, ha="center", va="center", color=INK, size=12)
            axes.text(k, r + 0.26, f"{of:,}", ha="center", va="center", color=INK, size=9)
    axes.set_xlim(-0.5, len(sides) - 0.5)
    axes.set_ylim(len(drafted) - 0.5, -0.5)
    axes.set_xticks(range(len(sides)), [str(side) for side in sides])
    axes.set_yticks(range(len(drafted)), [str(r + 1) for r in range(len(drafted))])
    axes.set_xlabel("side of the scale, in tokens")
    axes.set_ylabel("round")
    axes.grid(False)
    return to_svg(figure, name)


def calls_plot(run: Run) -> list[dict]:
    """The histogram of target calls, a row an arm."""
    arms = [arm for arm in run.arms if not is_reseeded_baseline(run.arms, arm)]
    counts = {arm: run.arms[arm].get("target_calls_images") for arm in arms}
    counts = {arm: values for arm, values in counts.items() if values}
    if not counts:
        return []
    most = max(map(len, counts.values()))
    rows = [[arm, *(f"{value:,}" for value in values), *[""] * (most - len(values))] for arm, values in counts.items()]
    spoken = "; ".join(
        f"{arm}: " + ", ".join(f"{value:,} of {calls}" for calls, value in enumerate(values) if value)
        for arm, values in counts.items()
    )
    return [
        {
            "title": "Images by target calls",
            "alt": f"Images by the target calls that they took. {spoken}.",
            "svg": _calls_svg(run, {arm: counts[arm] for arm in shown_arms(run, list(counts), SHOWN)}),
            "table": {"head": ["Arm", *(f"{calls} calls" for calls in range(most))], "rows": rows},
            "wide": True,
        }
    ]


def _calls_svg(run: Run, counts: dict[str, list[int]]) -> str:
    figure, rows = new_figure(360, 46 + 62 * len(counts), rows=len(counts))
    most = max(map(len, counts.values()))
    for axes, (arm, values) in zip(rows, counts.items()):
        shares = [value / sum(values) for value in values]
        having = [calls for calls, value in enumerate(values) if value]
        bars = axes.bar(having, [shares[c] for c in having], 0.8, color=run.colours[arm], edgecolor=INK, linewidth=0.6)
        axes.bar_label(bars, [f"{values[c]:,}" for c in having], color=INK, size=11, padding=1)
        name_row(axes, arm)
        axes.set_ylim(0, 1.3)
        axes.set_yticks([])
        axes.grid(False)
        axes.spines["left"].set_visible(False)
    first = min(next((c for c, value in enumerate(values) if value), 0) for values in counts.values())
    rows[-1].set_xlim(first - 0.6, most - 0.4)
    rows[-1].set_xticks(range(first, most))
    rows[-1].set_xlabel("target calls an image took")
    return to_svg(figure, "calls")
