"""The pool by itself: when decoding waits, when it does not, and what becomes of errors."""

import os
import threading

import pytest

from lightning_modules import write_pool
from lightning_modules.write_pool import WAITING, WritePool, default_workers

PATIENCE = 10  # seconds after which a test gives up; none waits that long


def ignore(results):
    pass


def test_decoding_waits_at_the_bound_and_not_before():
    pool, gate = WritePool(workers=2), threading.Event()
    for _ in range(WAITING):
        pool.submit([lambda: gate.wait(PATIENCE)] * 2, ignore)
    assert pool.waited == 0 and not gate.is_set()
    one_more = threading.Thread(target=pool.submit, args=([int], ignore))
    one_more.start()
    one_more.join(0.2)
    assert one_more.is_alive()
    gate.set()
    one_more.join(PATIENCE)
    assert not one_more.is_alive() and pool.waited > 0.1
    pool.close()


def test_decoding_does_not_wait_for_a_writer_that_keeps_up():
    pool = WritePool(workers=1)
    for _ in range(10):
        done = threading.Event()
        pool.submit([int] * 3, lambda _, done=done: done.set())
        assert done.wait(PATIENCE)  # the decoding of the next batch
    pool.flush()
    assert pool.waited < 0.1  # only one that is not yet marked as done


def test_what_follows_a_batch_waits_for_all_its_tasks_and_gets_their_results_in_order():
    pool, gate, results = WritePool(workers=3), threading.Event(), []
    pool.submit([lambda: gate.wait(PATIENCE) and "slow", lambda: "quick", lambda: "last"], results.append)
    pool.submit([], lambda _: gate.set())  # of a later batch: done first
    pool.flush()
    assert results == [["slow", "quick", "last"]]
    pool.close()


@pytest.mark.parametrize("call", [lambda pool: pool.flush(), lambda pool: pool.submit([int], ignore)])
def test_an_error_reaches_the_caller_and_stops_what_follows_its_batch(call):
    pool, followed = WritePool(workers=1), []

    def full():
        raise OSError("no room")

    pool.submit([int, full, int], followed.append)
    pool._threads.submit(int).result()  # behind the batch in the only thread
    with pytest.raises(OSError, match="no room"):
        call(pool)
    pool.close()
    assert followed == []


def test_closing_finishes_what_was_submitted():
    pool, followed = WritePool(workers=1), []
    pool.submit([lambda: 1] * 50, followed.append)
    pool.close()
    assert followed == [[1] * 50]


def test_workers_are_a_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(write_pool, "available_cores", lambda: 64)
    assert [default_workers(processes) for processes in (1, 8, 16, 100)] == [8, 8, 4, 1]


@pytest.mark.parametrize(
    ("given", "quota", "expected"),
    [
        ("3", "max 100000", 3),
        ("4,2", "max 100000", 4),
        ("", "150000 100000", 1),
        ("no", "100000 100000", 1),
        ("0", "", 2),
    ],
)
def test_threads_are_those_that_the_process_may_use(given, quota, expected, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(write_pool, "QUOTA", tmp_path / "cpu.max")
    write_pool.QUOTA.write_text(quota)
    assert write_pool.default_threads(processes=2) == expected
