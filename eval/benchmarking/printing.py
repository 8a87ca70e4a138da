"""The tables that a benchmark prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.table import Table

from eval.console import Page, ms

DASH = "-"
Cells = list[tuple[str, str]]  # of a row, each with the title of its column


def print_tables(report: dict[str, Any]) -> None:
    """Prints what was measured to stdout; ``report`` is the content of the JSON file."""
    page = Page()
    settings, ceilings, environment = report["settings"], report["ceilings"], report["environment"]
    rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s {name}" for name, rate in ceilings["operations_per_second"].items())
    page.say(
        f"{report['models']}, {settings['precision']}, on {environment.get('gpu', environment['processor'])} "
        f"({environment['device']}, threads {environment['threads']})"
    )
    page.say(
        f"The machine reaches {ceilings['bytes_per_second'] / 1e9:,.0f} GB/s and {rates}; roofline is the least time "
        "that this allows."
    )
    entries = report["results"]
    clocked = [entry for entry in entries if "parts_seconds" in entry]
    sides = [f"{side}²" for side in report["patch_nums"]]
    page.print(_table(f"milliseconds per batch, median of {settings['repeats']} runs", entries, main_cells))
    page.say(f"memory: {report['memory_is']}")
    title = "milliseconds of each part / its roofline, mean of runs with a clock inside"
    page.print(_table(title, clocked, _parts_cells))
    title = "milliseconds of models and sampling by scale; a pass over several scales is shared by their tokens"
    page.print(_table(title, clocked, lambda entry: _scales_cells(entry, sides)))
    if report["original_tokens"] is not None:
        page.say(f"original, top_k 1 in float32: {_tokens(report['original_tokens'])}")


def _table(title: str, entries: list[dict[str, Any]], cells: Callable[[dict[str, Any]], Cells]) -> Table:
    table = Table(title=title, title_justify="left")
    rows = [[*which(one), *cells(one)] for one in entries]
    for column, _ in rows[0]:
        table.add_column(column, justify="left" if column == "strategy" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(text for _, text in row))
    return table


def which(entry: dict[str, Any]) -> Cells:
    """Batch size and strategy, with the draft that it has of its own."""
    name = f"{entry['name']} ({entry['draft']})" if "draft" in entry else entry["name"]
    return [("batch", str(entry["batch_size"])), ("strategy", name)]


def main_cells(entry: dict[str, Any]) -> Cells:
    """Time and memory, beside the roofline."""
    latency, roofline, memory = entry["latency_seconds"], entry.get("roofline"), entry["memory_bytes"]
    prefix, note = ("simulated_", " simulated") if "simulated" in entry else ("", "")
    calls, launches = entry.get("target_calls_mean"), entry.get("kernel_launches_per_image")
    return [
        ("ms", ms(latency["median"])),
        ("p10-p90", f"{ms(latency['p10'])}-{ms(latency['p90'])}"),
        ("images/s", f"{entry['images_per_second']:.2f}"),
        ("speed", f"{entry[f'{prefix}speed_relative_to_baseline']:.2f}{note}"),
        ("roofline\nms", ms(roofline["seconds"]) if roofline else DASH),
        ("ms /\nroofline", f"{roofline['latency_over_roofline']:.2f}" if roofline else DASH),
        ("target\ncalls", DASH if calls is None else f"{calls:.2f}"),
        ("memory\nGB", f"{memory['peak'] / 1e9:.2f}" if memory else DASH),
        ("launches\nper image", DASH if launches is None else f"{launches:,.0f}"),
    ]


def _parts_cells(entry: dict[str, Any]) -> Cells:
    least = entry["roofline"]["parts_seconds"] | {"whole": entry["roofline"]["seconds"]}
    return [
        (part, ms(seconds) + (f" / {ms(least[part])}" if part in least else ""))
        for part, seconds in entry["parts_seconds"].items()
    ]


def _scales_cells(entry: dict[str, Any], sides: list[str]) -> Cells:
    return [*zip(sides, map(ms, entry["scales_seconds"])), ("class", ms(entry["conditioning_seconds"]))]


def _tokens(tokens: dict[str, Any]) -> str:
    if "not_compared" in tokens:
        return tokens["not_compared"]
    gap = "" if tokens["largest_gap"] is None else f", largest score gap {tokens['largest_gap']:.2g}"
    verdict = "the same" if tokens["equal_up_to_near_ties"] else "NOT the same"
    return (
        f"{verdict}: {tokens['equal_images']} of {tokens['images']} images have equal tokens, "
        f"{tokens['near_tie_images']} first differ by a near-tie{gap}"
    )
