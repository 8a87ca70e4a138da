"""A finished run is not lost for its table: stdout may be ASCII or closed; running out of memory names a batch."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from eval import fid
from eval.estimates.memory import smaller_batch
from tests.paths import ROOT
from tests.security.finished import write_run

PROOF = pytest.mark.proof


@pytest.mark.parametrize(
    "shell", ['"$@" > >(exec true)', *(pytest.param(f'"$@" {closed}', marks=PROOF) for closed in (">&-", "2>&-"))]
)
def test_the_status_of_a_measured_run_is_that_of_its_files(tmp_path, shell):
    out = write_run(tmp_path / "run")
    line = [sys.executable, str(ROOT / "eval/measure.py"), "--out", str(out), "--metrics", "none"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(["bash", "-c", shell, "bash", *line], capture_output=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr.decode()
    assert (out / "report.html").is_file()


def test_running_out_of_memory_names_a_batch_that_fits():
    assert "64 ran out of memory" in smaller_batch(64, lambda batch: batch, 20)
    assert "; 16 fits" in smaller_batch(64, lambda batch: batch, 20)
    assert "; 32 fits" in smaller_batch(64, lambda batch: batch, 1000)
    assert "; use smaller models" in smaller_batch(1, lambda batch: batch, 1000)


@pytest.mark.parametrize("allocate", [torch.empty, np.empty])
def test_the_job_that_runs_out_of_memory_names_a_batch_that_fits(pair_line, tmp_path, monkeypatch, refused, allocate):
    monkeypatch.setattr("sdvar.decode", lambda *_, **__: allocate(2**58))
    line = [*pair_line, "--labels", "1", "--images_per_class", "4", "--batch_size", "4", "--accelerator", "cpu"]
    line += ["--threads", "1", "--metrics", "none", "--strategy", "Speculative", "--strategy.gamma", "2"]
    error = refused(fid.main, [*line, "--out", str(tmp_path / "run")])
    assert "batch_size: 4 ran out of memory" in error and "; 2 fits" in error
