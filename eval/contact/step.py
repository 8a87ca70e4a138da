"""What a step needs and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

import sdvar

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
SAMPLING = sdvar.Sampling(cfg=1.5, top_k=60)  # of the bundled pair
LARGE_SAMPLING = sdvar.Sampling(cfg=1.5, top_k=900, top_p=0.96)  # of the released sizes


def bundled(dtype: torch.dtype) -> sdvar.ModelPair:
    """The bundled pair, on the CPU."""
    return sdvar.load_pair("tiny", dtype=dtype)


@dataclass(frozen=True)
class Place:
    """Where the steps run and how large they are.

    Args:
        device: the GPU.
        out: folder of the results; a step's own files go into it too.
        tiny: whether the bundled pair is all that is decoded.
        original: a checkout of the original code, or None.
        left: seconds until everything must have ended.
        note: keeps what a step has found so far, should it not come to its end, and prints a line.
        load: the pair of the checks in some dtype, on the CPU.
        images: decoded together where the batch is varied.
        processes: the accelerator of the command that is started in processes of its own.
    """

    device: torch.device
    out: str
    tiny: bool = False
    original: str | None = None
    left: Callable[[], float] = lambda: 600.0
    note: Callable[..., None] = lambda facts, line=None: None
    load: Callable[[torch.dtype], sdvar.ModelPair] = bundled
    images: int = 64
    processes: str = "gpu"

    def pair(self, dtype: torch.dtype, device: torch.device | None = None) -> sdvar.ModelPair:
        """The pair of the checks on the GPU, or on another device."""
        return moved(self.load(dtype), device or self.device)


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Args:
        finding: one line.
        verdict: `PASSED`, `FAILED` or `SKIPPED`.
        facts: more of it, in plain values, for the JSON file.
    """

    finding: str
    verdict: str = PASSED
    facts: dict[str, Any] = field(default_factory=dict)


class Step(NamedTuple):
    """A step: its name, what it shows in one line, and the function that does it."""

    name: str
    shows: str
    run: Callable[[Place], Outcome]


def judged(problems: Sequence[str], finding: str, **facts: Any) -> Outcome:
    """Failed with the problems where there are some, else passed with the finding."""
    if problems:
        return Outcome("; ".join(problems), FAILED, facts)
    return Outcome(finding, PASSED, facts)


def moved(pair: sdvar.ModelPair, device: torch.device) -> sdvar.ModelPair:
    """The pair, its models now on a device."""
    for model in (pair.draft, pair.target, pair.tokenizer):
        model.to(device)
    return pair
