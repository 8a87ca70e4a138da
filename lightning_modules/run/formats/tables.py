"""The tables of a run: their rows, how a value is written, and files that a crash can neither tear nor double."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from lightning_modules.columns import PER_ROUND, PER_SCALE, ROW_DIGEST
from lightning_modules.decoded_batch import DecodedBatch
from lightning_modules.run.formats.records import REPAIR
from lightning_modules.run.formats.rows import image_file, read_rows, row_digest
from sdvar.decoding.timing import PARTS
from sdvar.system.atomic import write_atomically


class Table:
    """Rows with an int key, in ``<stem>.csv`` and, during a run, in one ``<stem>.rank<r>.csv`` per process.

    A process appends to its own part only. `merge` puts the parts into the one table, sorted and each key once, and
    removes them; interrupted at any point it can be repeated. Each row ends with its digest.

    Args:
        path: the merged table, ``<folder>/<stem>.csv``.
        columns: names of the columns but for the digest; the first is the key.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path = path
        self.columns = columns
        self._owner = f"{path.parent.name}/{path.stem}"

    def append(self, rank: int, rows: Iterable[Mapping[str, object]]) -> None:
        """Adds rows to the part of this process: all or none, or in a crash some and a torn one that `merge` drops."""
        data = memoryview(self._format(rows).encode())
        if not data:
            return
        with self.path.with_suffix(f".rank{rank}.csv").open("ab", buffering=0) as part:
            end = part.tell()
            try:
                while data:
                    data = data[part.write(data) :]
            except OSError:  # a full disk; later rows must not continue half a row
                part.truncate(end)
                raise

    def read(self, keys: Container[int] | None = None) -> list[dict[str, str]]:
        """Rows of the merged table, by key, checked; empty if there is none.

        Raises:
            ValueError: as `read_rows`, and how to go on.
        """
        try:
            return read_rows(self.path, self.columns, self._owner, keys) if self.path.is_file() else []
        except ValueError as error:
            raise ValueError(f"{error}; {REPAIR}") from None

    def replace(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Writes the merged table anew, whole or not at all."""
        write_atomically(self.path, (",".join((*self.columns, ROW_DIGEST)) + "\n" + self._format(rows)).encode())

    def merge(self, keys: Container[int] | None = None) -> list[str]:
        """Moves all parts into the merged table. Only one process may do this, while no other is writing.

        Only rows that are as they were written are kept: none that was edited, or torn by a kill or a power cut.

        Args:
            keys: of the run's rows; None for any.

        Returns:
            What is wrong with lines of the merged table, which are left out: what they stand for is to be made again.
        """
        damaged: list[str] = []
        parts = self.parts()
        rows: dict[int, dict[str, str]] = {}
        for file in (self.path, *parts):
            if file.is_file():
                found = damaged if file == self.path else []  # the last line of a part may be torn
                for row in read_rows(file, self.columns, self._owner, keys, found):
                    rows.setdefault(int(row[self.columns[0]]), row)
        self.replace(rows[key] for key in sorted(rows))
        for part in parts:
            part.unlink()
        return damaged

    def parts(self) -> list[Path]:
        """Files of rows that are not merged yet."""
        return sorted(self.path.parent.glob(f"{self.path.stem}.rank*.csv"))

    def _format(self, rows: Iterable[Mapping[str, object]]) -> str:
        values = [[str(row.get(name, "")) for name in self.columns] for row in rows]
        return "".join(",".join((*of_row, row_digest(self._owner, of_row))) + "\n" for of_row in values)


def manifest_rows(batch: Mapping[str, Tensor], decoded: DecodedBatch) -> list[dict[str, object]]:
    """A batch's rows of ``manifest.csv``, without the digests, which are known when the files are written.

    Args:
        batch: ``index`` and ``label``, each (B,).
        decoded: what the arm made of it.
    """
    columns = {"index": batch["index"].tolist(), "label": batch["label"].tolist(), "seed": decoded.seeds.tolist()}
    columns["file"] = [image_file(index) for index in columns["index"]]
    columns |= {name: values.tolist() for name, values in decoded.per_image.items()}
    absent = [""] * len(decoded.images)
    length = sum(scale.shape[1] for scale in decoded.tokens)
    agreeing = [] if decoded.agreeing_tokens is None else decoded.agreeing_tokens.tolist()
    columns["tokens_equal_baseline"] = [int(count == length) for count in agreeing] or absent
    columns["agreeing_tokens"] = agreeing or absent
    gaps = [] if decoded.score_gap is None else decoded.score_gap.tolist()
    columns["score_gap"] = ["" if math.isnan(gap) else f"{gap:.3e}" for gap in gaps] or absent
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def batch_row(number: int, decoded: DecodedBatch, tokens_sha256: str = "") -> dict[str, object]:
    """A row of ``batches.csv``.

    Args:
        number: of the batch.
        decoded: what the arm made of it.
        tokens_sha256: digest of its tokens, if they are kept.
    """
    row: dict[str, object] = {"batch": number, "images": len(decoded.tokens[0]), "seconds": f"{decoded.seconds:.6f}"}
    row |= {name: " ".join(map(str, decoded.per_scale[name].tolist())) for name in PER_SCALE}
    row |= {name: format_rounds(decoded.per_round[name].tolist()) for name in PER_ROUND}
    row |= {
        f"{part}_seconds": " ".join(f"{seconds:.6f}".rstrip("0").rstrip(".") for seconds in decoded.part_seconds[part])
        for part in PARTS
    }
    of_baseline = decoded.baseline_seconds
    row["baseline_seconds"] = "" if of_baseline is None else f"{of_baseline:.6f}"
    return row | {"tokens_sha256": tokens_sha256}


def format_rounds(counts: Sequence[Sequence[int]]) -> str:
    """Counts by round and scale as text: ``4 3 0;0 1 4``. Rounds at the end in which nothing was drafted are left out.

    Args:
        counts: K rounds of K scales each.
    """
    last = max((r for r, row in enumerate(counts) if any(row)), default=0)  # the first gives the scales
    return ";".join(" ".join(map(str, row)) for row in counts[: last + 1])


def sum_rounds(texts: Iterable[str]) -> list[list[int]]:
    """The sum of counts that `format_rounds` wrote; as many rounds as the longest of them has."""
    tables = [[[int(count) for count in row.split()] for row in text.split(";")] for text in texts]
    total = [[0] * len(tables[0][0]) for _ in range(max(map(len, tables)))]
    for table in tables:
        for r, row in enumerate(table):
            total[r] = [a + b for a, b in zip(total[r], row, strict=True)]
    return total
