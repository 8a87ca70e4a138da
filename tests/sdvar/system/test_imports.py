"""What a command leaves out while its libraries are imported is there afterwards."""

import subprocess
import sys

from tests.paths import ROOT

PROGRAM = """
import gc, sys
from sdvar.system.imports import importing

with importing():
    assert not gc.isenabled()
    import lightning.pytorch, torchmetrics

assert gc.isenabled() and gc.get_freeze_count()
print("scipy.signal" in sys.modules)
import scipy.signal
print(scipy.signal.windows.hamming(3).round(2).tolist())
"""


def test_scipy_signal_is_not_imported_until_it_is_used():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout == "False\n[0.08, 1.0, 0.08]\n", result.stderr
    assert result.stderr == ""
