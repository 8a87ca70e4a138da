"""A CSV table that several processes append to, and that a crash can neither tear nor double."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path


class Records:
    """Rows with an int key, in ``<stem>.csv`` and, while a run is going on, in one ``<stem>.rank<r>.csv`` a process.

    A process appends to its own part only. `merge` puts the parts into the one table, sorted and each key once, and
    removes them; interrupted at any point it can be done again.

    Args:
        path: the merged table, ``<folder>/<stem>.csv``.
        columns: names of the columns; the first is the key.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path = path
        self.columns = columns

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
            except OSError:  # a full disk; rows that come later must not continue half a row
                part.truncate(end)
                raise

    def read(self) -> list[dict[str, str]]:
        """Rows of the merged table, by key; empty if there is none."""
        if not self.path.is_file():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def replace(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Writes the merged table anew, whole or not at all."""
        write_atomically(self.path, (",".join(self.columns) + "\n" + self._format(rows)).encode())

    def merge(self) -> None:
        """Moves all parts into the merged table. Only one process may do this, when no other is writing."""
        rows = {int(row[self.columns[0]]): row for row in self.read()}
        parts = sorted(self.path.parent.glob(f"{self.path.stem}.rank*.csv"))
        for part in parts:
            text = part.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]  # a process that was killed may have left half a line
            for row in csv.DictReader(io.StringIO(whole), fieldnames=self.columns):
                rows.setdefault(int(row[self.columns[0]]), row)
        self.replace(rows[key] for key in sorted(rows))
        for part in parts:
            part.unlink()

    def _format(self, rows: Iterable[Mapping[str, object]]) -> str:
        buffer = io.StringIO()
        csv.DictWriter(buffer, self.columns, lineterminator="\n").writerows(rows)
        return buffer.getvalue()


def write_atomically(path: Path, data: bytes, sync: bool = True) -> None:
    """Writes a file so that it appears whole or not at all; an older one of that name is replaced.

    Args:
        path: of the file.
        data: its content.
        sync: force it to the disk before it gets its name. Without, a power cut may leave it empty: only for files that
            are checked before they are relied on.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:  # a full disk, above all: half a file would keep the rest of it
        temporary.unlink(missing_ok=True)
        raise
