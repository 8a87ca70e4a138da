"""A process that is asked to stop exits as one that was stopped, whatever it is waiting for."""

import os
import signal
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
