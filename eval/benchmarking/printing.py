"""The tables that a benchmark prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 140  # where stdout is not a terminal
DASH = "-"
PARTS = ("draft", "target", "sampling", "tokenizer", "rest", "whole")


def print_tables(report: dict[str, Any]) -> None:
    """Prints what was measured to stdout; ``report`` is the content of the JSON file."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    settings, ceilings, environment = report["settings"], report["ceilings"], report["environment"]
    rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s {name}" for name, rate in ceilings["operations_per_second"].items())
    say(
        f"{report['models']}, {settings['precision']}, on {environment.get('gpu', environment['processor'])} "
        f"({environment['device']}, threads {environment['threads']})"
    )
    say(
        f"The machine reaches {ceilings['bytes_per_second'] / 1e9:,.0f} GB/s and {rates}; roofline is the least time "
        "that this allows."
    )
    console.print(_main_table(report))
    say(f"memory: {report['memory_is']}")
    console.print(_parts_table(report))
    console.print(_scales_table(report))
    if report["original_tokens"] is not None:
        say(f"original, top_k 1 in float32: {_tokens(report['original_tokens'])}")


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("batch", justify="right", no_wrap=True)
    table.add_column("strategy", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _main_table(report: dict[str, Any]) -> Table:
    titles = ["ms", "p10-p90", "images/s", "speed", "roofline\nms", "ms /\nroofline", "target\ncalls", "memory\nGB",
              "launches\nper image"]  # fmt: skip
    table = _table(f"milliseconds per batch, median of {report['settings']['repeats']} runs", titles)
    for entry in report["results"]:
        latency, roofline, memory = entry["latency_seconds"], entry.get("roofline"), entry["memory_bytes"]
        table.add_row(
            str(entry["batch_size"]),
            entry["name"],
            _ms(latency["median"]),
            f"{_ms(latency['p10'])}-{_ms(latency['p90'])}",
            f"{entry['images_per_second']:.2f}",
            _speed(entry),
            _ms(roofline["seconds"]) if roofline else DASH,
            f"{roofline['latency_over_roofline']:.2f}" if roofline else DASH,
            f"{entry['target_calls_mean']:.2f}" if "target_calls_mean" in entry else DASH,
            f"{memory['peak'] / 1e9:.2f}" if memory else DASH,
            f"{entry['kernel_launches_per_image']:,.0f}" if "kernel_launches_per_image" in entry else DASH,
        )
    return table


def _speed(entry: dict[str, Any]) -> str:
    if "simulated" in entry:
        return f"{entry['simulated_speed_relative_to_baseline']:.2f} simulated"
    return f"{entry['speed_relative_to_baseline']:.2f}"


def _parts_table(report: dict[str, Any]) -> Table:
    table = _table("milliseconds of each part / its roofline, mean of runs with a clock inside", list(PARTS))
    for entry in report["results"]:
        if "parts_seconds" in entry:
            least = entry["roofline"]["parts_seconds"] | {"whole": entry["roofline"]["seconds"]}
            cells = [
                _ms(entry["parts_seconds"][part]) + (f" / {_ms(least[part])}" if part in least else "")
                for part in PARTS
            ]
            table.add_row(str(entry["batch_size"]), entry["name"], *cells)
    return table


def _scales_table(report: dict[str, Any]) -> Table:
    sides = [f"{side}²" for side in report["patch_nums"]]
    title = "milliseconds of models and sampling by scale; a pass over several scales is shared by their tokens"
    table = _table(title, [*sides, "class"])
    for entry in report["results"]:
        if "scales_seconds" in entry:
            times = (*entry["scales_seconds"], entry["conditioning_seconds"])
            table.add_row(str(entry["batch_size"]), entry["name"], *map(_ms, times))
    return table


def _tokens(tokens: dict[str, Any]) -> str:
    if "not_compared" in tokens:
        return tokens["not_compared"]
    gap = "" if tokens["largest_gap"] is None else f", largest score gap {tokens['largest_gap']:.2g}"
    verdict = "the same" if tokens["equal_up_to_near_ties"] else "NOT the same"
    return (
        f"{verdict}: {tokens['equal_images']} of {tokens['images']} images have equal tokens, "
        f"{tokens['near_tie_images']} first differ by a near-tie{gap}"
    )


def _ms(seconds: float) -> str:
    milliseconds = 1000 * seconds
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.2f}"
