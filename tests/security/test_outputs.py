"""A result that could not be written is an error at the start, not after the work."""

import shutil
from types import SimpleNamespace

import pytest

from eval import benchmark, fid, plan


@pytest.mark.parametrize("command", [plan, benchmark])
@pytest.mark.parametrize("out", ["missing/a.yaml", "a.yaml"])
def test_an_output_that_cannot_be_written_fails_at_the_start(tmp_path, monkeypatch, refused, command, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").mkdir()
    error = refused(command.main, ["--out", out])
    assert "error: out: " in error


def test_a_disk_that_is_too_small_for_images_and_report_fails_at_the_start(pair_line, tmp_path, monkeypatch, refused):
    monkeypatch.setattr("sdvar.decode", lambda *_, **__: pytest.fail("a model ran"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=110_000))
    line = [*pair_line, "--labels", "1", "--images_per_class", "100", "--accelerator", "cpu", "--threads", "1"]
    line += ["--metrics", "none", "--strategy", "Speculative", "--strategy.gamma", "2", "--out", str(tmp_path / "run")]
    error = refused(fid.main, line)
    assert "takes at least 0.2 MB more (200 images and the report), and 0.1 MB are free" in error
