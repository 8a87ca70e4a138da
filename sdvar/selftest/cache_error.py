"""A debug measure: does every cached key and value follow from what is committed?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdvar.decoding.state import DecodeState
from sdvar.decoding.stepper import Stepper
from sdvar.pyramid import ScalePyramid
from sdvar.rows import to_device
from sdvar.selftest.result import largest


@torch.no_grad()
def cache_error(state: DecodeState) -> float:
    """How far the caches of a state are from those of a fresh pass over the committed scales.

    A cache may be behind (contain fewer scales than are committed); it must never be wrong. Positions past the scales
    that it counts are ignored. To be called between rounds: within one, drafted scales are cached.
    Not for ``more_smooth``, whose inputs do not follow from the tokens.

    Returns:
        The largest difference of a cached key or value, over both models, all layers, guidance branches and images,
        relative to the largest number (at least 1) in the model's fresh cache of the image; inf if a cache counts
        scales that are not committed, NaN if one contains NaN.
    """
    errors = []
    for stepper in (state.stepper("draft"), state.stepper("target")):
        for image in range(state.batch):
            if stepper.progress[image].cached > state.maps.progress[image].committed:
                return math.inf
            progress, null = stepper.progress[image], stepper.model.num_classes
            branches = [(state.classes[image], image, progress.cached)]
            if stepper.guided_scales:
                branches.append((null, image + state.batch, progress.null_cached))
            errors += [
                _row_error(state, stepper, image, *branch) for branch in branches if branch[-1] > stepper.visible_from
            ]
    return largest(errors)


def inputs_of_scales(pyramid: ScalePyramid, inputs: Tensor, first: int, last: int) -> Tensor:
    """The part of `VQVAE.var_inputs` that belongs to the scales ``first`` <= k < ``last``; scale 0 has none."""
    offsets, n_0 = pyramid.offsets, pyramid.tokens[0]
    return inputs[:, offsets[max(first, 1)] - n_0 : offsets[max(last, 1)] - n_0]


def _row_error(state: DecodeState, stepper: Stepper, image: int, label: int, row: int, last: int) -> float:
    """Of one guidance branch of an image: the class that it is given, its row and the scales in its cache."""
    pyramid, first = state.pyramid, stepper.visible_from
    tokens = [part[image : image + 1] for part in pyramid.split(state.maps.tokens)]
    # inputs from the tokens, not from the state's f-hat: a wrong f-hat has to show as well
    inputs = inputs_of_scales(pyramid, state.pair.tokenizer.var_inputs(tokens), first, last)
    fresh, labels = stepper.model.new_cache(1), to_device([label], stepper.model.device)
    stepper.model.forward_span(stepper.model.condition(labels), inputs, first, last, fresh, visible_from=first)
    positions = pyramid.span(first, last)
    expected = fresh.read([0], positions)
    difference = largest(
        (ours - part).abs().max().item()
        for ours, part in zip(stepper.workspace.cache.read([row], positions), expected, strict=True)
    )
    return difference / max(1.0, largest(part.abs().max().item() for part in expected))
