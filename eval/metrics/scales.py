"""Where an arm's time and its rejections lie: by round, by scale, by part; and how its target calls spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from lightning_modules.run.batch_table import PART_SECONDS, PER_ROUND, recorded, sum_rounds
from sdvar.decoding.timing import PARTS

Rows = Sequence[Mapping[str, str]]


def scale_figures(rows: Rows, batches: Rows) -> dict[str, Any]:
    """Figures of one arm; those whose columns an earlier version did not write are left out.

    Args:
        rows: of its manifest.
        batches: of its batches.csv.

    Returns:
        - `target_calls_images`: entry c counts the images that took c target calls;
        - `drafted_rounds`, `accepted_rounds`: by round and scale; absent where nothing was drafted;
        - `seconds_per_scale`: for draft, target and sampling the mean seconds of a batch at each scale;
        - `seconds_of_no_scale`: the same of the models' conditioning, the tokenizer, and what is in no part.
    """
    calls = Counter(int(row["target_calls"]) for row in rows)
    figures: dict[str, Any] = {"target_calls_images": [calls[count] for count in range(max(calls) + 1)]}
    if recorded(batches, PER_ROUND):
        rounds = {name: sum_rounds(row[name] for row in batches) for name in PER_ROUND}
        if any(map(any, rounds["drafted_rounds"])):
            length = len(rounds["drafted_rounds"])  # no scale may have stood in the last of them
            scales = len(rounds["drafted_rounds"][0])
            rounds["accepted_rounds"] += [[0] * scales] * (length - len(rounds["accepted_rounds"]))
            figures |= rounds
    if recorded(batches, PART_SECONDS):
        figures |= _seconds(batches)
    return figures


def _seconds(batches: Rows) -> dict[str, Any]:
    means: dict[str, list[float]] = {}
    for part, column in zip(PARTS, PART_SECONDS):
        values = [[float(text) for text in row[column].split()] for row in batches]
        means[part] = [fmean(of_scale) for of_scale in zip(*values, strict=True)]
    whole = fmean(float(row["seconds"]) for row in batches)
    return {
        "seconds_per_scale": {part: means[part][:-1] for part in PARTS if part != "tokenizer"},
        "seconds_of_no_scale": {
            "conditioning": means["draft"][-1] + means["target"][-1],
            "tokenizer": sum(means["tokenizer"]),
            "other": max(whole - sum(map(sum, means.values())), 0.0),
        },
    }
