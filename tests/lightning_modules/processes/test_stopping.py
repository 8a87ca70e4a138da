"""A process that is asked to stop exits as one that was stopped, whatever it is waiting for."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from lightning_modules.processes.stopping import SIGNALS, StopOnSignal


class Child:
    """A process that Lightning started."""

    def __init__(self):
        self.heard = []

    def send_signal(self, number):
        self.heard.append(number)

    def wait(self):
        self.heard.append("waited for")


@pytest.fixture
def trainer():
    """What the callback sees of one; the handlers are put back as Lightning does."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=[Child()])), is_global_zero=True)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_it_ends_after_its_batch_and_after_its_children(trainer, number):
    stop, (child,) = StopOnSignal(), trainer.strategy.launcher.procs
    stop.on_predict_start(trainer, None)
    stop.on_predict_batch_start(trainer)  # nobody has asked
    for _ in range(2):  # to the process, and to its group
        os.kill(os.getpid(), number)
    assert child.heard == [number]
    assert trainer.strategy.launcher.procs == []  # Lightning's observer would kill this process with the first child
    with pytest.raises(SystemExit) as left:
        stop.on_predict_batch_start(trainer)
    assert left.value.code == 128 + number
    assert child.heard == [number, "waited for"]


def test_told_while_it_waits_for_the_others(trainer):
    stop = StopOnSignal()
    stop.on_predict_start(trainer, None)
    lost = RuntimeError("gloo: connection closed by peer")
    stop.on_exception(trainer, None, lost)  # nobody has asked: the error goes its way
    os.kill(os.getpid(), signal.SIGTERM)
    stop.on_exception(trainer, None, ValueError("NaN"))
    with pytest.raises(SystemExit):
        stop.on_exception(trainer, None, lost)
    with pytest.raises(SystemExit):  # all images are there: the measuring is left to the next call
        stop.teardown(trainer, None, "predict")


IMPORTS = "import time, lightning_modules.processes.stopping as stopping; "


@pytest.mark.parametrize(
    "child",
    [
        IMPORTS + "stopping.end_with_parent(); print('up', flush=True); time.sleep(60)",
        IMPORTS + "print('up', flush=True); time.sleep(1); stopping.end_with_parent(); time.sleep(60)",
    ],
    ids=["while it works", "while it starts"],
)
def test_a_process_ends_with_its_launcher(child):
    parent = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {child!r}]); "
    parent += "print(p.pid, flush=True); time.sleep(60)"
    launcher = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"LOCAL_RANK": "1"},
    )  # fmt: skip
    pid = int(launcher.stdout.readline())
    assert launcher.stdout.readline() == "up\n"
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    for _ in range(100):
        if "State:\tZ" in _status(pid) or not _status(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the process outlived its launcher")


def _status(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/status") as file:
            return file.read()
    except OSError:
        return ""
