"""What the options of several commands share."""

import subprocess
import sys

from tests.paths import ROOT

HEAVY = ("lightning", "pytorch_lightning", "torchmetrics", "datasets")


def test_help_imports_no_heavy_library():
    """It would take seconds more. One process asks every command in turn."""
    code = f"""
import sys
from importlib import import_module
for name in ("fid", "sweep", "measure", "export", "plan", "benchmark"):
    try:
        import_module(f"eval.{{name}}").main(["--help"])
    except SystemExit as stop:
        assert stop.code == 0, name
    print([library for library in {HEAVY} if library in sys.modules], file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.count("--out") >= 6
    assert result.stderr == "[]\n" * 6
