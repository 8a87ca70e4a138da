"""In the place of the project's kernels where there is no GPU: torch's operations, each call as one launch."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import _disable_current_modes

from sdvar import noise
from sdvar import sampling as sampling_module
from sdvar.kernels import reference
from sdvar.models.layers.invariant import BLOCKS
from tests.simulated_cuda import CudaTensor, SimulatedCuda
from tests.simulated_cuda.graphs import mapped


class StandIn:
    """Has the functions of `sdvar.kernels.blocks`."""

    def __getattr__(self, name):
        return functools.partial(_call, name)


def _call(name: str, *arguments):
    return launched(name, functools.partial(_compute, name), *arguments)


def launched(name: str, function, tensor: CudaTensor, *others):
    """A function of tensors on a simulated device as one launch."""
    device, held = tensor.device, mapped(lambda each: each.held, CudaTensor, (tensor, *others))
    with _disable_current_modes(), torch.no_grad():
        result = function(*held)
    SimulatedCuda.active.launch(name, device, function, held, {}, result)
    return mapped(lambda each: CudaTensor(each, device), torch.Tensor, result)


def _compute(name: str, *arguments):
    result = getattr(reference, name)(*arguments)
    if name in ("modulated", "added"):  # filled for a CPU
        return F.pad(result, (0, 0, 0, -len(result) % max(BLOCKS["cuda"])))
    return result


def added(f_hat, h, convolved):
    """In the place of `sdvar.kernels.f_hat.added`."""
    return launched("f_hat", lambda *parts: torch.add(parts[0], parts[1] + parts[2], alpha=0.5), f_hat, h, convolved)


def pick(logits, positions, offset, seeds, sampling, drafted=None, drafted_scales=0):
    """In the place of `sdvar.kernels.pick.pick`: one launch, and one that sets the counts to zero."""
    device, simulation = logits.device, SimulatedCuda.active
    given = mapped(lambda each: each.held, CudaTensor, (logits, positions, seeds, drafted))
    with _disable_current_modes():
        result = _picked(*given[:2], offset, given[2], sampling, given[3], drafted_scales)
    for name in ("pick", "zeros")[: 1 if drafted is None else 2]:
        simulation.launch(name, device, None, (), {}, None)
    return mapped(lambda each: CudaTensor(each, device), torch.Tensor, result)


def _picked(raw, positions, offset, seeds, sampling, drafted, drafted_scales):
    from sdvar.kernels.pick import Picked  # needs Triton

    part = slice(offset, offset + raw.shape[1])
    if positions.guidance is not None:
        (of_class, of_null), t = raw.chunk(2), positions.guidance[part]
        raw = (1 + t) * of_class - t * of_null
    raw = raw if positions.temperature is None else raw / positions.temperature[part]
    scales = positions.scales[part].long()
    gumbel = noise.gumbel(seeds, "pick", scales, positions.places[part].long(), raw.shape[-1], raw.dtype)
    tokens, agreed = sampling_module.pick(sampling.filtered(raw), gumbel), None
    if drafted is not None:
        count = drafted.shape[1]
        agreed = torch.zeros(len(seeds), drafted_scales, dtype=torch.int32)
        agreed.index_add_(1, scales[:count] - scales[0], (tokens[:, :count] == drafted).int())
    return Picked(tokens, raw.isfinite().all(-1), agreed)
