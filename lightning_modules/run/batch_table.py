"""What a run notes of a batch of one arm, as one row of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lightning_modules.decode_statistics import PER_SCALE
from sdvar.decoding.timing import PARTS

if TYPE_CHECKING:
    from lightning_modules.predictor import DecodedBatch

PER_ROUND = ("drafted_rounds", "accepted_rounds")
PART_SECONDS = tuple(f"{part}_seconds" for part in PARTS)
# Later versions add columns at the end, so that rows that an earlier one left keep their meaning.
BATCH_COLUMNS = ("batch", "seconds", *PER_SCALE, *PER_ROUND, *PART_SECONDS, "baseline_seconds")


def batch_row(number: int, decoded: DecodedBatch) -> dict[str, object]:
    """A row of ``batches.csv``.

    Args:
        number: of the batch.
        decoded: what the arm made of it.
    """
    row = {"batch": number, "seconds": f"{decoded.seconds:.6f}"}
    row |= {name: " ".join(map(str, decoded.per_scale[name].tolist())) for name in PER_SCALE}
    row |= {name: format_rounds(decoded.per_round[name].tolist()) for name in PER_ROUND}
    row |= {
        f"{part}_seconds": " ".join(f"{seconds:.6f}".rstrip("0").rstrip(".") for seconds in decoded.part_seconds[part])
        for part in PARTS
    }
    of_baseline = decoded.baseline_seconds
    return row | {"baseline_seconds": "" if of_baseline is None else f"{of_baseline:.6f}"}


def format_rounds(counts: Sequence[Sequence[int]]) -> str:
    """Counts by round and scale as text: ``4 3 0;0 1 4``. Rounds at the end in which nothing was drafted are left out.

    Args:
        counts: K rounds of K scales each.
    """
    last = max((r for r, row in enumerate(counts) if any(row)), default=0)  # the first stays: empty is "not recorded"
    return ";".join(" ".join(map(str, row)) for row in counts[: last + 1])


def sum_rounds(texts: Iterable[str]) -> list[list[int]]:
    """The sum of counts that `format_rounds` wrote; as many rounds as the longest of them has."""
    tables = [[[int(count) for count in row.split()] for row in text.split(";")] for text in texts]
    total = [[0] * len(tables[0][0]) for _ in range(max(map(len, tables)))]
    for table in tables:
        for r, row in enumerate(table):
            total[r] = [a + b for a, b in zip(total[r], row, strict=True)]
    return total


def recorded(rows: Sequence[Mapping[str, str]], columns: Iterable[str]) -> bool:
    """Whether every row has these columns: those that an earlier version wrote lack some."""
    return all(row.get(name) for row in rows for name in columns)
