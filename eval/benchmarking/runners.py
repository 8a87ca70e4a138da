"""What is measured: one way of decoding a batch each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

import sdvar
from eval.benchmarking.roofline import held_bytes
from sdvar.decoding.timing import Clock


class Runner(ABC):
    """A named way of decoding a batch.

    Attributes:
        name: names it in the results.
        strategy: the strategy; None for the original code.
    """

    name: str
    strategy: sdvar.Strategy | None

    @abstractmethod
    def run(self, labels: Tensor, seeds: Tensor, clock: Clock | None = None) -> sdvar.DecodeStats | None:
        """Decode one batch, int64 (B,) each; returns what it counted, if it counts."""

    @abstractmethod
    def weight_bytes(self) -> int:
        """Bytes of the models that it runs."""

    def capture_seconds(self) -> float:
        """Seconds that its models have spent on capturing CUDA graphs so far."""
        return 0.0

    def release(self) -> None:  # noqa: B027 - the original keeps nothing
        """Give up memory that is kept from one decode to the next."""


@dataclass
class StrategyRunner(Runner):
    """A strategy of sdvar.

    Args:
        name: see `Runner`.
        strategy: how to decode.
        pair: the models.
        sampling: how tokens are drawn.
        images: whether the tokenizer's decoder runs.
    """

    name: str
    strategy: sdvar.Strategy
    pair: sdvar.ModelPair
    sampling: sdvar.Sampling
    images: bool

    def run(self, labels: Tensor, seeds: Tensor, clock: Clock | None = None) -> sdvar.DecodeStats:
        return sdvar.decode(self.pair, labels, seeds, self.strategy, self.sampling, self.images, clock).stats

    def weight_bytes(self) -> int:
        plain = isinstance(self.strategy, sdvar.Baseline)
        names = {self.strategy.model} if plain else {"draft", "target"}
        models = {id(model): model for model in (getattr(self.pair, name) for name in names)}
        return sum(held_bytes(model) for model in (*models.values(), self.pair.tokenizer))

    def capture_seconds(self) -> float:
        return sum(model.capture_seconds for model in {self.pair.draft, self.pair.target})

    def release(self) -> None:
        for model in (self.pair.draft, self.pair.target):
            model.release()
