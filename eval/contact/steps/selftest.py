"""Step: the self-test of the pair on the GPU."""

from __future__ import annotations

from typing import Any

import torch

from eval.contact.step import Outcome, Place, judged
from sdvar.selftest import SDVARParallelV1Tester

DTYPES = (torch.float32, torch.bfloat16)


def run(place: Place) -> Outcome:
    """Passed where every check of `python -m sdvar.selftest` passes, in float32 and in bfloat16."""
    problems: list[str] = []
    rows: list[dict[str, Any]] = []
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        for result in SDVARParallelV1Tester(place.pair(dtype)).run_all_tests():
            rows.append({"dtype": name, **{key: getattr(result, key) for key in ("test_name", "passed", "message")}})
            if not result.passed:
                problems.append(f"{name}: {result.test_name}: {result.message}")
    return judged(problems, f"{len(rows)} checks pass, in float32 and in bfloat16", checks=rows)
