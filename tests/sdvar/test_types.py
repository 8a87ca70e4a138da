"""The annotations of sdvar, which users' own checkers read (py.typed), are consistent."""

import subprocess
import sys

from tests.paths import ROOT


def test_mypy_finds_nothing():
    result = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
