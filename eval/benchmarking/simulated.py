"""An acceptance rule for random weights: how often a scale stands is given, not found out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch

import sdvar


@dataclass(frozen=True)
class Simulated(sdvar.Acceptance):
    """A drafted scale stands with a given probability and then keeps its tokens; else the target's picks stand. Lossy.

    What it decodes means nothing. It shows what a schedule costs if the draft were that good.

    Args:
        rates: that probability, 0 .. 1, one a scale.
    """

    rates: tuple[float, ...]

    def judge(self, proposal: sdvar.Proposal) -> sdvar.Verdict:
        chance = proposal.accept_noise()[:, 0]  # the numbers are in the open interval: 0 never stands, 1 always does
        stands = chance < self.rates[proposal.scale]
        tokens = torch.where(stands[:, None], proposal.drafted, proposal.picked)
        return sdvar.Verdict(tokens=tokens, accepted=stands, agreed=stands[:, None].expand_as(tokens))


def with_simulated(strategies: dict[str, sdvar.Strategy], rates: Sequence[float], scales: int) -> dict:
    """The strategies with that rule in every Speculative.

    Args:
        strategies: by name.
        rates: one a scale, or one for all.
        scales: K.

    Raises:
        ValueError: if the rates are not one or K, or no strategy is Speculative.
    """
    if len(rates) not in (1, scales):
        raise ValueError(f"acceptance: expected one rate or {scales}, one a scale, got {len(rates)}")
    if not any(isinstance(strategy, sdvar.Speculative) for strategy in strategies.values()):
        raise ValueError("acceptance: expected a --strategy Speculative whose rule it replaces, got none")
    rule = Simulated(tuple(rates) if len(rates) == scales else tuple(rates) * scales)
    return {
        name: dataclasses.replace(strategy, acceptance=rule) if isinstance(strategy, sdvar.Speculative) else strategy
        for name, strategy in strategies.items()
    }


def is_simulated(strategy: sdvar.Strategy | None) -> bool:
    """Whether a speed of this strategy rests on simulated acceptance."""
    return isinstance(strategy, sdvar.Speculative) and isinstance(strategy.acceptance, Simulated)
