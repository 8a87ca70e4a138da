"""Where time and rejections lie: by round, by scale, by part; and how the target calls spread over the images."""

from __future__ import annotations

from collections import Counter
from statistics import fmean

from eval.metrics.metric import ArmTables, Column, Metric, Result, Values

TIMED = ("draft", "target", "sampling")  # parts of sdvar.decoding.timing whose time belongs to a scale
OF_NO_SCALE = ("conditioning", "tokenizer", "other")


def compute(tables: ArmTables) -> Result:
    """Counts by round and scale (absent where nothing is drafted), and mean seconds of a batch by part and scale."""
    calls = Counter(int(row["target_calls"]) for row in tables.rows)
    return {
        "target_calls_images": [calls[count] for count in range(max(calls) + 1)],
        **_rounds(tables),
        **_seconds(tables),
    }, []


def _rounds(tables: ArmTables) -> Values:
    from lightning_modules.run.formats.tables import sum_rounds

    drafted, accepted = (
        sum_rounds(row[name] for row in tables.batches) for name in ("drafted_rounds", "accepted_rounds")
    )
    if not any(map(any, drafted)):
        return {}
    # the last rounds may have accepted nothing
    accepted += [[0] * len(drafted[0])] * (len(drafted) - len(accepted))
    return {"drafted_rounds": drafted, "accepted_rounds": accepted}


def _seconds(tables: ArmTables) -> Values:
    means: dict[str, list[float]] = {}  # by scale; the last entry is the time of no scale
    for part in (*TIMED, "tokenizer"):
        of_batches = [[float(text) for text in row[f"{part}_seconds"].split()] for row in tables.batches]
        means[part] = [fmean(of_scale) for of_scale in zip(*of_batches, strict=True)]
    whole = fmean(float(row["seconds"]) for row in tables.batches)
    return {
        "seconds_per_scale": {part: means[part][:-1] for part in TIMED},
        "seconds_of_no_scale": {
            "conditioning": means["draft"][-1] + means["target"][-1],
            "tokenizer": sum(means["tokenizer"]),
            "other": max(whole - sum(map(sum, means.values())), 0.0),
        },
    }


SCALES = Metric(
    name="scales",
    title="Scales and rounds",
    help="rounds and time by scale",
    needs="tables",
    compute=compute,
    columns=(
        Column.count(
            "target_calls_images", "entry c counts the images that took c target calls", dimensions=1, always=True
        ),
        Column.count(
            "drafted_rounds",
            "by round and scale, images whose drafted scale was judged in that round; absent where nothing was drafted",
            dimensions=2,
        ),
        Column.count("accepted_rounds", "of these, images whose scale was accepted", dimensions=2),
        Column(
            "seconds_per_scale",
            "mean seconds of a batch in each part, by scale; a pass over several scales is shared by their tokens",
            dimensions=1,
            fields=TIMED,
            minimum=0,
            always=True,
        ),
        Column(
            "seconds_of_no_scale",
            "mean seconds of a batch in the models' conditioning, the tokenizer's decoder, and what is in no part",
            fields=OF_NO_SCALE,
            minimum=0,
            always=True,
        ),
    ),
)
