"""Two runs do not write to one folder, and nobody goes on writing for a run that is gone."""

import os
import socket
import subprocess
import sys

import pytest

from lightning_modules.run.folder import RunFolder
from lightning_modules.run.lock import RunLock

HOLD = """
import sys, time
from pathlib import Path
from lightning_modules.run.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
for rank in map(int, sys.argv[2:]):
    lock.acquire(rank)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Starts a process that holds locks."""
    started = []

    def start(*ranks):
        command = [sys.executable, "-c", HOLD, str(tmp_path), *map(str, ranks)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tmp_path, other):
    first, second = other(0), other(1, 2)
    with pytest.raises(ValueError, match="another run is writing") as refused:
        RunLock(tmp_path).acquire(0)
    for rank, process in enumerate((first, second, second)):
        assert f"rank {rank}: process {process.pid} on {socket.gethostname()}" in str(refused.value)


@pytest.mark.proof
def test_the_folder_is_taken_until_the_last_process_of_a_killed_run_is_gone(tmp_path, other):
    first, second = other(0), other(1)
    first.kill()
    first.wait()
    with pytest.raises(ValueError, match=f"rank 1: process {second.pid} on "):
        RunLock(tmp_path).acquire(0)
    second.kill()
    second.wait()
    lock = RunLock(tmp_path)
    lock.acquire(0)
    lock.acquire(0)  # has it
    with pytest.raises(ValueError, match=f"process {os.getpid()} on "):
        RunLock(tmp_path).acquire(0)
    lock.release()
    RunLock(tmp_path).acquire(0)


def test_a_process_that_sees_another_folder_than_the_first_does_not_write(tmp_path, monkeypatch):
    """A disk of its own under the same name; also one that holds an earlier run."""
    monkeypatch.setattr("lightning_modules.run.folder.PATIENCE", 0.3)
    shared, own, used = (RunFolder(tmp_path / name) for name in ("shared", "own", "used"))
    for folder in (used, shared):
        folder.lock.acquire(0)
    (used.path / ".locks" / "rank0.json").write_text('{"host": "elsewhere", "process": 1}')
    holder = shared.lock.holder(0)
    for folder in (own, used):
        with pytest.raises(ValueError, match=f"is not the folder that the run was opened in on {holder['host']}"):
            folder.join(1, holder)
    assert not own.path.exists()
    shared.join(1, holder)
