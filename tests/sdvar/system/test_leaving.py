"""A command's process ends at once, with its own status, and nothing that was asked for is left out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import ROOT

PROGRAM = """
import atexit, sys
sys.argv = [sys.argv[1]]
import sdvar
from sdvar.system.interrupts import well_behaved

class Kept:
    def __del__(self):
        print("taken apart")

kept = Kept()
atexit.register(print, "asked for")

@well_behaved("eval/fid.py", "nothing is kept")
def main():
    print("done")
    {body}

sys.exit(main())
"""


def end_of(body: str, script: str = f"{ROOT}/eval/fid.py", **streams) -> tuple[int, str, str]:
    line = [sys.executable, "-c", PROGRAM.format(body=body), script]
    result = subprocess.run(
        line, text=True, cwd=ROOT, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    )
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("body", "status"), [("return None", 0), ("return 3", 3), ("sys.exit(4)", 4), ("sys.exit()", 0)]
)
def test_a_command_ends_with_its_status_and_is_not_taken_apart(body, status):
    assert end_of(body) == (status, "done\nasked for\n", "")


def test_another_program_ends_as_python_does():
    assert end_of("return None", script="somewhere/fid.py") == (0, "done\nasked for\ntaken apart\n", "")


def test_a_traceback_is_left_to_python():
    status, out, error = end_of("raise RuntimeError('a bug')")
    assert (status, out.split("\n")[:2]) == (1, ["done", "asked for"])
    assert error.endswith("RuntimeError: a bug\n")


def test_output_that_cannot_be_written_is_no_success():
    with open("/dev/full", "w") as full:
        assert end_of("return None", stdout=full)[0] != 0


def test_a_notebooks_backend_of_matplotlib_does_not_reach_a_command(monkeypatch):
    """The notebook names a package that need not be where the command runs, and importing matplotlib would fail."""
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    body = "import os; print(os.environ.get('MPLBACKEND'))"
    assert end_of(body) == (0, "done\nNone\nasked for\n", "")
    assert "matplotlib_inline" in end_of(body, script="somewhere/fid.py")[1]
