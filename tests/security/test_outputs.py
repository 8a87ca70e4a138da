"""A result that could not be written is an error at the start, not after the work."""

import os

import pytest

from eval import benchmark, plan


@pytest.mark.parametrize("command", [plan, benchmark])
@pytest.mark.parametrize("out", ["missing/a.yaml", "a.yaml"])
def test_an_output_that_cannot_be_written_fails_at_the_start(tmp_path, monkeypatch, capsys, command, out):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda *given: False)  # root may write everywhere
    with pytest.raises(SystemExit):
        command.main(["--out", out])
    error = capsys.readouterr().err
    assert "error: out: expected a" in error and error.count("\n") == 1
