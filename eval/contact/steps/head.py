"""Step: the Triton kernel of the head, against torch's float32 product."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from eval.contact.step import SKIPPED, Outcome, Place, judged
from sdvar.decoding.timing import now

SIZES = ((1024, 4096), (1920, 4096), (2304, 4096), (70, 130))  # width and codebook of d16, d30, d36, and odd ones
ROWS = (64, 32768)  # tokens of a coarse scale of one image, and of the last scale of 64, both branches counted
TRIES = 5


def run(place: Place) -> Outcome:
    """Passed where it is as exact and a row is the same in every call, with the times of both; skipped likewise."""
    try:
        from sdvar.kernels import head, head_trial

        if torch.cuda.get_device_capability(place.device) not in head.CAPABILITIES:
            return Outcome("torch's product serves: tensor cores of this GPU gain nothing in float32", SKIPPED)
        problems = []
        for width, columns in SIZES:
            found = head_trial.problems(head, place.device, width, columns)
            problems += [f"width {width}, {columns} columns: {problem}" for problem in found]
    except Exception as error:  # no Triton, no C compiler, an old driver, each with an error of its own
        reason = " ".join(str(error).split())[:300]
        return Outcome(f"it does not run here, torch's product serves, slower: {reason}", SKIPPED)
    times = {
        name: [_milliseconds(place.device, product, rows) for rows in ROWS]
        for name, product in (("kernel", head.product), ("torch", F.linear))
    }
    took = "; ".join(
        f"{rows:,} rows {ours:.3g} ms, torch {theirs:.3g}" for rows, ours, theirs in zip(ROWS, *times.values())
    )
    return judged(problems, f"as exact as torch's product in {len(SIZES)} sizes; {took}", rows=ROWS, milliseconds=times)


def _milliseconds(device: torch.device, product: Callable[..., object], rows: int) -> float:
    """The best of some tries, in the first of the sizes."""
    width, columns = SIZES[0]
    h, weight = (torch.randn(count, width, device=device) for count in (rows, columns))
    bias = torch.zeros(columns, device=device)
    product(h, weight, bias)
    taken = []
    for _ in range(TRIES):
        started = now(device)
        product(h, weight, bias)
        taken.append(now(device) - started)
    return 1000 * min(taken)
