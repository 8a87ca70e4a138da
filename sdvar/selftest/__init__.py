"""Checks of a pair of models on the machine at hand: does it decode exactly what its weights mean?

`python -m sdvar.selftest` runs them on checkpoints, `SDVARParallelV1Tester` on models in memory.
"""

from sdvar.selftest.result import CheckResult
from sdvar.selftest.tester import SDVARParallelV1Tester

__all__ = ["CheckResult", "SDVARParallelV1Tester"]
