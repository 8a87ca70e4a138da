"""Models that leave nothing to chance: a draft that is wrong where its plan says, and a target that is right.

A label has right tokens of its own; a wrong one is ``WRONG``. Only the vector of ``WRONG`` is not zero, so an input
that is not zero says that a token before it was wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

import sdvar
from sdvar.models.transformer import Conditioning

WRONG = 3
CERTAIN = 100.0  # more than any noise


def right_token(label: int, scale: int) -> int:
    return (label + scale) % 3


class FakeVAR(sdvar.VAR):
    """One-hot logits, decided by the label and the inputs.

    Attributes:
        passes: for each label the passes it took part in, each as the digits of its scales: "012".
    """

    def __init__(self, patch_nums: Sequence[int], labels: int) -> None:
        super().__init__(patch_nums, labels, depth=0, width=16, heads=1, codebook_size=4, latent_channels=1)
        self.passes: dict[int, list[str]] = defaultdict(list)

    def wrong(self, label: int, scale: int, misled: bool) -> int:
        """How many tokens of the scale come out wrong; ``misled`` if a token before it was."""
        raise NotImplementedError

    def condition(self, labels: Tensor) -> Conditioning:
        start = labels[:, None, None].float().expand(-1, self.pyramid.tokens[0], self.width)
        return Conditioning(start, start[:, :0], torch.zeros(len(labels), 2, 1, self.width))

    def forward_span(self, conditioning, inputs, first, last, cache=None, rows=None, visible_from=0, logits_from=None):
        labels = conditioning.start[:, 0, 0].int().tolist()
        assert inputs.shape[:2] == (len(labels), self.pyramid.span_tokens(max(first, 1), max(last, 1)))
        if first == 0:
            inputs = torch.cat((inputs.new_zeros(len(labels), self.pyramid.tokens[0], 1), inputs), dim=1)
        misled = [part.abs().amax((1, 2)) > 1e-3 for part in self.pyramid.split(inputs, first, last)]
        logits = torch.zeros(len(labels), self.pyramid.span_tokens(first, last), self.codebook_size)
        for row, label in enumerate(labels):
            if last > 1:  # scale 0 alone is the class prefix, which is no pass of an image
                self.passes[label].append("".join(map(str, range(first, last))))
            for k, scale in zip(range(first, last), self.pyramid.split(logits[row], first, last, dim=0)):
                wrong = self.wrong(label, k, bool(misled[k - first][row]))
                scale[:wrong, WRONG] = CERTAIN
                scale[wrong:, right_token(label, k)] = CERTAIN
        return logits[:, self.pyramid.span_tokens(first, first if logits_from is None else logits_from) :]


class FakeDraft(FakeVAR):
    """Wrong as planned, whatever came before.

    Args:
        patch_nums: sides.
        plans: one per label; a character per scale: "." for right, "x" for wrong, a digit for so many wrong tokens.
    """

    def __init__(self, patch_nums: Sequence[int], plans: Sequence[str]) -> None:
        super().__init__(patch_nums, len(plans))
        assert all(len(plan) == len(patch_nums) for plan in plans)
        self.plans = plans

    def wrong(self, label: int, scale: int, misled: bool) -> int:
        mark = self.plans[label][scale]
        return int(mark) if mark.isdigit() else self.pyramid.tokens[scale] if mark == "x" else 0


class FakeTarget(FakeVAR):
    """Always right; or, where ``easily_misled``, all wrong after any wrong token."""

    def __init__(self, patch_nums: Sequence[int], labels: int, easily_misled: bool) -> None:
        super().__init__(patch_nums, labels)
        self.easily_misled = easily_misled

    def wrong(self, label: int, scale: int, misled: bool) -> int:
        return self.pyramid.tokens[scale] if misled and self.easily_misled else 0


def fake_pair(patch_nums: Sequence[int], plans: Sequence[str], easily_misled: bool = False) -> sdvar.ModelPair:
    """A pair for labels 0 .. len(plans) - 1, each with a plan of its draft."""
    tokenizer = sdvar.VQVAE(patch_nums, 4, 1, base_channels=32, channel_multipliers=(1, 1))
    quantizer = tokenizer.quantize
    for parameter in quantizer.parameters():  # without its convolutions, phi halves
        parameter.data.zero_()
    quantizer.embedding.weight.data[WRONG] = 1.0
    return sdvar.ModelPair(FakeDraft(patch_nums, plans), FakeTarget(patch_nums, len(plans), easily_misled), tokenizer)
