"""An acceptance rule for random weights: how often a drafted scale is accepted is given, not measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch

import sdvar


@dataclass(frozen=True)
class Simulated(sdvar.Acceptance):
    """Accepts a drafted scale with a given probability; a rejected one is replaced by the target's picks. Lossy.

    What it decodes means nothing. It shows what a schedule would cost with a draft that good.

    Args:
        rates: that probability, 0 .. 1, per scale.
    """

    rates: tuple[float, ...]

    def judge(self, proposal: sdvar.Proposal) -> sdvar.Verdict:
        chance = proposal.accept_noise()[:, 0]  # in the open interval: rate 0 never accepts, 1 always does
        accepted = chance < self.rates[proposal.scale]
        tokens = torch.where(accepted[:, None], proposal.drafted, proposal.picked)
        return sdvar.Verdict(tokens=tokens, accepted=accepted, agreed=accepted[:, None].expand_as(tokens))


def with_simulated(
    strategies: dict[str, sdvar.Strategy], rates: Sequence[float], scales: int
) -> dict[str, sdvar.Strategy]:
    """The strategies with that rule in every Speculative.

    Args:
        strategies: by name.
        rates: one per scale, or one for all.
        scales: K.

    Raises:
        ValueError: if there are neither one nor K rates, or no strategy is Speculative.
    """
    rule = Simulated(per_scale(rates, scales))
    if not any(isinstance(strategy, sdvar.Speculative) for strategy in strategies.values()):
        raise ValueError("acceptance: expected a --strategy Speculative whose rule it replaces, got none")
    return {
        name: dataclasses.replace(strategy, acceptance=rule) if isinstance(strategy, sdvar.Speculative) else strategy
        for name, strategy in strategies.items()
    }


def per_scale(rates: Sequence[float], scales: int) -> tuple[float, ...]:
    """The rates of all K scales, from one per scale or one for all; ValueError for another number of them."""
    if len(rates) not in (1, scales):
        raise ValueError(f"acceptance: expected one rate or {scales}, one per scale, got {len(rates)}")
    return tuple(rates) if len(rates) == scales else tuple(rates) * scales
