"""`python -m sdvar.selftest`: its table, its options, its exit status."""

import os
import subprocess
import sys

import pytest

from sdvar.selftest.__main__ import main
from tests.paths import ROOT
from tests.sdvar.selftest import faults
from tests.sdvar.selftest.test_checks import NAMES


@pytest.mark.proof
def test_the_command():
    """Through the real command line, in a process of its own."""
    command = [sys.executable, "-m", "sdvar.selftest", "--pair", "tiny", "--device", "cpu", "--batch_size", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"COLUMNS": "60"})
    assert done.returncode == 0, done.stderr
    rows = {line.split()[1]: line for line in done.stdout.splitlines() if any(name in line for name in NAMES)}
    assert set(rows) == set(NAMES)
    assert all(row.split("│")[2].strip() == "yes" for row in rows.values())
    assert done.stdout.rstrip().endswith("10 of 10 checks passed")


def test_the_command_on_checkpoints(pair_files, capsys):
    options = [f"--{name}={file}" for name, file in pair_files.items()]
    assert main([*options, "--device=cpu", "--dtype=float64", "--gamma=1"]) == 0
    assert "10 of 10 checks passed" in capsys.readouterr().out


def test_the_command_exits_with_1_when_a_check_fails(pair_files, monkeypatch, capsys):
    faults.null_branch_copied(monkeypatch)
    assert main([*(f"--{name}={file}" for name, file in pair_files.items()), "--device=cpu"]) == 1
    shown = capsys.readouterr().out
    assert "NO" in shown and "9 of 9" not in shown


@pytest.mark.parametrize(
    "options, words",
    [
        (["--draft=a.pth", "--target=b.pth", "--tokenizer=c.pth"], "b.pth: no such file"),
        (["--device=gpu"], "--device: expected cpu, cuda or cuda:N, got 'gpu'"),
        (["--device=cuda:99"], "--device: cuda:99 asked for"),
    ],
)
def test_wrong_options_end_with_one_line(capsys, options, words):
    with pytest.raises(SystemExit) as stopped:
        main(options)
    shown = capsys.readouterr()
    assert stopped.value.code == 2
    assert words in shown.err and len(shown.err.splitlines()) == 1 and not shown.out


@pytest.mark.parametrize("option", ["--gamma=0", "--threads=0", "--batch_size=two", f"--batch_size={'9' * 5000}"])
def test_wrong_values_are_refused_by_the_parser(refused, option):
    assert option.split("=")[1] in refused(main, [option])
