"""Speculative decoding: draft several scales, verify them in one target pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from sdvar.decoding.acceptance import Acceptance, Coupled, Proposal
from sdvar.decoding.schedule import Fixed
from sdvar.decoding.strategy import Strategy

if TYPE_CHECKING:
    from sdvar.decoding.session import Session


class Drafted(NamedTuple):
    """Drafted scales of a group of n images.

    Attributes:
        tokens: one int64 (n, n_k) a drafted scale.
        inputs: one (n, n_k, C_vae) a scale: the target's inputs of the scales after each drafted one.
    """

    tokens: list[Tensor]
    inputs: list[Tensor]


@dataclass(frozen=True)
class Speculative(Strategy):
    """Draft gamma scales with the small model, verify them and the scale after them in one pass of the large one.

    Speculative decoding (Leviathan et al. 2023, Chen et al. 2023) with a scale, a whole token map, in place of a token.

    Args:
        gamma: scales drafted a round: an int >= 1 or a schedule (Fixed).
        acceptance: the rule that judges a drafted scale.
    """

    gamma: int | Fixed = 2
    acceptance: Acceptance = field(default_factory=Coupled)

    def __post_init__(self) -> None:
        if not isinstance(self.gamma, Fixed):
            Fixed(self.gamma)
        if not isinstance(self.acceptance, Acceptance):
            raise TypeError(f"acceptance: expected a rule such as sdvar.Coupled(), got {self.acceptance!r}")

    @property
    def schedule(self) -> Fixed:
        return self.gamma if isinstance(self.gamma, Fixed) else Fixed(self.gamma)

    @property
    def lossless(self) -> bool:
        return self.acceptance.lossless

    def run(self, session: Session) -> None:
        canvas, scales = session.canvas, len(session.pyramid)
        draft, target = session.stepper("draft"), session.stepper("target")
        while min(canvas.scales) < scales:
            scale = min(canvas.scales)  # images that are ahead wait
            groups: dict[tuple[int, int], list[int]] = defaultdict(list)
            for i in range(session.batch):
                if canvas.scales[i] == scale:
                    groups[target.cached[i], draft.cached[i]].append(i)
            for images in groups.values():
                self._round(session, images, scale, self.schedule.draft_length(scale, scales))

    def _round(self, session: Session, images: list[int], scale: int, length: int) -> None:
        """One round for images that share the first unsettled scale and the state of both caches."""
        canvas, target = session.canvas, session.stepper("target")
        drafted = self._draft(session, images, scale, length)

        # one pass over what the target's cache lacks, the drafted scales and the bonus scale after them
        first, last = target.cached[images[0]], scale + length + 1
        inputs = torch.cat((canvas.committed_inputs(images, first, scale + 1), *drafted.inputs), dim=1)
        logits = target.logits(images, inputs, first, last, wanted_from=scale)
        logits = session.pyramid.split(logits, scale, last)

        alive = torch.arange(len(images), device=inputs.device)  # rows of the group whose round goes on
        for k, tokens in enumerate(drafted.tokens):
            alive = self._settle(session, images, alive, scale + k, tokens, logits[k])
            if not len(alive):
                return
        survivors = [images[row] for row in alive.tolist()]
        canvas.commit(survivors, last - 1, session.pick(survivors, last - 1, logits[-1][alive]))

    def _draft(self, session: Session, images: list[int], scale: int, length: int) -> Drafted:
        """Draft ``length`` scales from ``scale`` on; the draft's cache catches up in the first pass."""
        canvas, quantizer = session.canvas, session.canvas.quantizer
        draft = session.stepper("draft")
        drafted = Drafted([], [])
        f_hat = canvas.f_hat[torch.tensor(images, device=canvas.f_hat.device)]
        for k in range(scale, scale + length):
            first = draft.cached[images[0]]
            inputs = canvas.committed_inputs(images, first, scale + 1) if k == scale else drafted.inputs[-1]
            logits = draft.logits(images, inputs, first, k + 1, wanted_from=k)
            drafted.tokens.append(session.pick(images, k, logits))
            f_hat = f_hat + quantizer.contribution(drafted.tokens[-1], k)
            drafted.inputs.append(quantizer.next_input(f_hat, k + 1))
        return drafted

    def _settle(
        self, session: Session, images: Sequence[int], alive: Tensor, scale: int, drafted: Tensor, logits: Tensor
    ) -> Tensor:
        """Judge and commit one drafted scale for the images still in the round; returns those that go on."""
        draft, target = session.stepper("draft"), session.stepper("target")
        members = [images[row] for row in alive.tolist()]
        drafted, logits = drafted[alive], logits[alive]
        picked = session.pick(members, scale, logits)
        verdict = self.acceptance.judge(Proposal(scale, drafted, picked))
        session.counts.add(scale, verdict.agreed, verdict.stands)
        session.canvas.commit(members, scale, verdict.tokens)
        # keys of the scales after this one were computed from the drafted tokens: they hold only if those were kept
        replaced = (verdict.tokens != drafted).any(1) | ~verdict.stands
        for i, cut in zip(members, replaced.tolist()):
            if cut:
                draft.truncate(i, scale + 1)
                target.truncate(i, scale + 1)
        return alive[verdict.stands]
