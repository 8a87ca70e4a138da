"""A debug measure: does every cached key and value follow from what is committed?"""

from __future__ import annotations

import torch

from sdvar.decoding.state import DecodeState
from sdvar.decoding.stepper import Stepper


@torch.no_grad()
def cache_error(state: DecodeState) -> float:
    """How far the caches of a state are from those of a fresh pass over the committed scales.

    A cache may be behind (contain fewer scales than are committed); it must never be wrong. Positions past the scales
    that it counts are ignored. To be called between rounds: within one, drafted scales are cached.
    Not for ``more_smooth``, whose inputs do not follow from the tokens.

    Returns:
        The largest absolute difference of a cached key or value, over both models, all layers, guidance branches and
        images; inf if a cache counts scales that are not committed, NaN if one contains NaN.
    """
    errors = [0.0]
    for which in ("draft", "target"):
        stepper = state.stepper(which)
        for image in range(state.batch):
            if stepper.progress[image].cached > state.maps.progress[image].committed:
                return float("inf")
            if stepper.progress[image].cached > stepper.visible_from:
                errors.append(_image_error(state, stepper, image))
    return torch.tensor(errors, dtype=torch.float64).max().item()  # unlike max(), passes NaN on


def largest_value(state: DecodeState) -> float:
    """The largest absolute value in both models' caches, of the scales counted; the rest is unwritten or stale."""
    largest = [0.0]
    for which in ("draft", "target"):
        stepper = state.stepper(which)
        for image in range(state.batch):
            positions = state.pyramid.span(stepper.visible_from, stepper.progress[image].cached)
            parts = stepper.workspace.cache.read([image], positions)
            largest += [part.abs().max().item() for part in parts if part.numel()]
    return max(largest)


def _image_error(state: DecodeState, stepper: Stepper, image: int) -> float:
    pyramid, first, last = state.pyramid, stepper.visible_from, stepper.progress[image].cached
    tokens = [part[image : image + 1] for part in pyramid.split(state.maps.tokens)]
    # inputs from the tokens, not from the state's f-hat: a wrong f-hat must show as well
    inputs = state.pair.tokenizer.var_inputs(tokens)
    n_0 = pyramid.tokens[0]
    inputs = inputs[:, pyramid.offsets[max(first, 1)] - n_0 : pyramid.offsets[max(last, 1)] - n_0]
    labels, rows = state.labels[image : image + 1], [image]
    if stepper.guided:
        labels = torch.cat((labels, torch.full_like(labels, stepper.model.num_classes)))
        rows.append(image + state.batch)
    fresh = stepper.model.new_cache(len(rows))
    inputs = inputs.expand(len(rows), -1, -1)
    stepper.model.forward_span(stepper.model.condition(labels), inputs, first, last, fresh, visible_from=first)
    positions = pyramid.span(first, last)
    pairs = zip(stepper.workspace.cache.read(rows, positions), fresh.read(list(range(len(rows))), positions))
    return torch.stack([(ours - expected).abs().max() for ours, expected in pairs]).max().item()
