"""Threads that write what was decoded while the next batch is being decoded."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
WAITING = 2  # batches: one is being written, one may be waiting while the next is decoded
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds of a period's microseconds
MOST_THREADS = 1024
MOST_WORKERS = 8  # a core encodes 70 to 90 images of 256 px per second


class WritePool:
    """Works through batches of tasks in threads; at most `WAITING` batches wait, so that memory is bounded.

    Threads are enough: Pillow's encoder, the digest and the disk leave Python's lock free.

    Args:
        workers: number of threads.

    Attributes:
        waited: seconds that `submit` has waited for earlier batches.
    """

    def __init__(self, workers: int) -> None:
        self.waited = 0.0
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="writer")
        self._batches: deque[Future] = deque()

    def submit(self, tasks: Sequence[Callable[[], T]], then: Callable[[list[T]], None]) -> None:
        """Starts the tasks of a batch and, when all of them are done, ``then`` with their results.

        Waits first while `WAITING` batches are not finished.

        Raises:
            Exception: what a task of an earlier batch raised; its ``then`` was not called.
        """
        while self._batches and self._batches[0].done():
            self._batches.popleft().result()
        if len(self._batches) >= WAITING:
            started = time.perf_counter()
            self._batches.popleft().result()
            self.waited += time.perf_counter() - started
        running = [self._threads.submit(task) for task in tasks]
        # Started after its tasks, so that it never waits for a task without a thread.
        self._batches.append(self._threads.submit(lambda: then([task.result() for task in running])))

    def flush(self) -> None:
        """Waits for all batches.

        Raises:
            Exception: what a task raised.
        """
        while self._batches:
            self._batches.popleft().result()

    def close(self) -> None:
        """Finishes what was submitted and ends the threads; never raises, `flush` does."""
        self._threads.shutdown(wait=True)


def default_workers(processes: int) -> int:
    """Threads for each of the processes on this machine: its share of the cores, from 1 to `MOST_WORKERS`."""
    return max(1, min(MOST_WORKERS, available_cores() // processes))


def default_threads(processes: int) -> int:
    """CPU threads of each process where none are given: OMP_NUM_THREADS, else its share of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if given.isdecimal() and 0 < int(given) <= MOST_THREADS:
        return int(given)
    return max(1, available_cores() // processes)


def available_cores() -> int:
    """Cores that this process may use: by its affinity and, in a container, by the time that it is allotted."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _allotted(QUOTA) or cores))


def _allotted(file: Path) -> int | None:
    """Cores by the quota of a control group, rounded up; None without one."""
    try:
        quota, period = file.read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):  # none, or "max"
        return None
