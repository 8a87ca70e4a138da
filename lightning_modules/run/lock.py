"""One run at a time in a folder. Every process holds a lock, which the system releases when the process ends."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sdvar.system.atomic import write_atomically

PATIENCE = 2.0  # seconds; a run that is refused looks for a moment at the locks that ours is about to take


class RunLock:
    """The locks of a run's processes, files in ``<folder>/.locks``.

    A lock is the system's (flock), so there are no stale ones: a run that was killed, on whatever node, leaves none.
    The files stay; their content only names who has the lock.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[int, FileLock] = {}

    def acquire(self, rank: int) -> None:
        """Hold the lock of a process until `release` or its end; that of rank 0 only if no other run has a process.

        Raises:
            ValueError: another run is alive; the message names its hosts and processes. Or a lock is a link.
            OSError: the folder cannot be written.
        """
        if rank in self._held:
            return
        locks = self.folder / ".locks"
        for path in (locks, locks / f"rank{rank}"):
            if path.is_symlink():
                raise ValueError(f"out: {path} is a symbolic link, and a run's locks lie in its own folder; remove it")
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"rank{rank}", timeout=PATIENCE if rank else 0)
        with suppress(Timeout):
            lock.acquire()
        taken = [] if lock.is_locked else [rank]
        if rank == 0:
            taken += [other for other in self._ranks() if other and not self._free(other)]
        if taken:
            lock.release()
            self._refuse(taken)
        self._held[rank] = lock
        holder = {"host": socket.gethostname(), "process": os.getpid()}
        write_atomically(locks / f"rank{rank}.json", json.dumps(holder).encode(), sync=False)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock of rank 0 within a block; errors as of `acquire`."""
        try:
            self.acquire(rank=0)
        except OSError as error:
            raise ValueError(f"out: {error.filename or self.folder} cannot be written: {error.strerror}") from None
        try:
            yield
        finally:
            self.release()

    def holder(self, rank: int) -> dict[str, object] | None:
        """Host and process that have, or last had, the lock of a rank; None if that cannot be read."""
        file = self.folder / ".locks" / f"rank{rank}.json"
        try:
            holder = json.loads(file.read_text()) if file.is_file() else None
        except (OSError, ValueError, RecursionError):  # it has just begun
            return None
        return holder if isinstance(holder, dict) and {"host", "process"} <= holder.keys() else None

    def release(self) -> None:
        """Give up what this process holds."""
        while self._held:
            self._held.popitem()[1].release()

    def _ranks(self) -> list[int]:
        names = (re.fullmatch(r"rank([0-9]+)\.json", name) for name in os.listdir(self.folder / ".locks"))
        return sorted(int(name[1]) for name in names if name)

    def _free(self, rank: int) -> bool:
        lock = FileLock(self.folder / ".locks" / f"rank{rank}", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return False
        lock.release()
        return True

    def _refuse(self, ranks: list[int]) -> None:
        raise ValueError(
            f"out: another run is writing to {self.folder} ({'; '.join(map(self._describe, ranks))}); wait until it "
            "has ended or stop it, or give another folder"
        )

    def _describe(self, rank: int) -> str:
        holder = self.holder(rank)
        if holder is None:
            return f"rank {rank}"
        return f"rank {rank}: process {holder['process']} on {holder['host']}"
