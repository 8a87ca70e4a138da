"""Several scales from one f-hat: a span of the pyramid in one pass of the target, without a draft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sdvar.decoding.schedule import check_total, checked_spans, end_of_span
from sdvar.decoding.strategies.base import Strategy

if TYPE_CHECKING:
    from sdvar.decoding.state import DecodeState
    from sdvar.models.protocol import NextScaleModel
    from sdvar.pair import ModelPair


@dataclass(frozen=True)
class Parallel(Strategy):
    """Decode the scales of a span in one pass of the target, as if those before each added nothing. Lossy.

    It is speculation whose draft says that f-hat stays as it is, accepted unseen: every scale of a span takes its input
    from the f-hat before the span. Later passes see the keys and values that this one leaves, though they come from
    inputs that were only assumed: computing them anew would take every token of the span a second time.

    Args:
        spans: scales decoded per pass, as of `Spans`: each at least 1; past the last cut the last span is repeated.
            Scale 0 is the first of them and takes no pass.
    """

    spans: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", checked_spans("spans", self.spans))

    @property
    def lossless(self) -> bool:
        """Where every span is of one scale, which is plain decoding."""
        return set(self.spans) == {1}

    @property
    def exact(self) -> bool:
        return self.lossless

    def check(self, scales: int) -> None:
        check_total("spans", self.spans, scales)

    def models_of(self, pair: ModelPair) -> list[NextScaleModel]:
        return [pair.target]

    def run(self, state: DecodeState) -> None:
        pyramid, images = state.pyramid, range(state.batch)
        state.decode_plain("target", 1)
        scale = 1
        while scale < len(pyramid):
            last = min(len(pyramid), end_of_span(self.spans, scale))
            inputs = [state.maps.quantizer.next_input(state.maps.f_hat, k) for k in range(scale, last)]
            logits = state.stepper("target").run(images, torch.cat(inputs, dim=1), scale, last, wanted_from=scale)
            for k, of_scale in zip(range(scale, last), logits.split(pyramid.tokens[scale:last])):
                state.pick_and_commit(images, k, of_scale)
            scale = last
