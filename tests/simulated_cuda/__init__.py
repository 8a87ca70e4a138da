"""CUDA devices that are not there, to test the GPU path on any machine.

`SimulatedCuda` makes tensors that say they are on ``cuda:N`` and computes them on the CPU. It raises where CUDA would,
and counts what costs time there: launches, waits, copies, captures. It knows nothing of speed, of rounding on a GPU, or
of two streams that run at once.
"""

from __future__ import annotations

from dataclasses import replace

import sdvar
from tests.simulated_cuda.device import CudaTensor, SimulatedCuda

__all__ = ["CudaTensor", "SimulatedCuda", "moved", "on_host"]


def moved(pair: sdvar.ModelPair, device: str) -> sdvar.ModelPair:
    """The pair, its models now on a device."""
    for model in {pair.draft, pair.target, pair.tokenizer}:
        model.to(device)
    return pair


def on_host(result: sdvar.DecodeResult) -> sdvar.DecodeResult:
    """A result with its tensors on the CPU; reading them counts as no wait."""
    tokens = [getattr(part, "held", part) for part in result.tokens]
    return replace(result, tokens=tokens, images=getattr(result.images, "held", result.images))
