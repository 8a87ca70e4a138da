"""A command says on a terminal what it is doing, and nowhere else."""

import io
import sys

from sdvar.system import steps
from sdvar.system.interrupts import well_behaved


class Terminal(io.StringIO):
    def isatty(self):
        return True


@well_behaved("a command", "again")
def command():
    steps.log.info("measuring %s", "much")


def test_steps_are_shown_on_a_terminal_alone(monkeypatch):
    for stream, shown in ((Terminal(), "measuring much\n"), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stderr", stream)
        command()
        assert stream.getvalue() == shown
    steps.show(False)
    monkeypatch.setattr(sys, "stderr", quiet := Terminal())
    steps.log.info("loading")
    assert quiet.getvalue() == ""
