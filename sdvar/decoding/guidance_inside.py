"""Drafts with guidance inside, see `sdvar.guidance`, under a strategy and a sampling."""

from __future__ import annotations

from sdvar.decoding.strategies.base import Strategy
from sdvar.guidance import other_guidance
from sdvar.pair import ModelPair
from sdvar.sampling import Sampling


def inside_of(strategy: Strategy, pair: ModelPair) -> Sampling | None:
    """The guidance inside of the draft, where a strategy runs it."""
    return pair.draft.guidance_inside if any(model is pair.draft for model in strategy.models_of(pair)) else None


def mismatch(strategy: Strategy, sampling: Sampling, pair: ModelPair) -> str | None:
    """`other_guidance` of a strategy's draft; None where it runs no draft with guidance inside."""
    inside = inside_of(strategy, pair)
    return other_guidance(inside, sampling, len(pair.pyramid), strategy.lossless) if inside else None
