"""The rounds of one speculative decode: draft, verify, accept, commit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdvar.decoding.state import DecodeState, TokenMaps, grouped
from sdvar.decoding.timing import timed
from sdvar.rows import rows_of

if TYPE_CHECKING:
    from sdvar.decoding.speculative import Speculative

log = logging.getLogger("sdvar.rounds")


class Drafted:
    """Drafted scales of a group of n images, and the target's inputs that follow from them.

    Args:
        maps: what is committed; it is not changed.
        images: the group.
        scale: the first drafted scale.

    Attributes:
        tokens: one int64 (n, n_k) a drafted scale.
        inputs: one (n, n_k, C_vae) a drafted scale: the input of the scale after it.
        logits: one (n, n_k, V) a drafted scale; empty where the rule does not read them.
    """

    def __init__(self, maps: TokenMaps, images: Sequence[int], scale: int) -> None:
        self.quantizer = maps.quantizer
        self.scale = scale
        self.f_hat = maps.f_hat[maps.rows(images)]
        self.tokens: list[Tensor] = []
        self.inputs: list[Tensor] = []
        self.logits: list[Tensor] = []

    def add(self, tokens: Tensor) -> None:
        """Append the next scale, int64 (n, n_k)."""
        scale = self.scale + len(self.tokens)
        self.tokens.append(tokens)
        self.f_hat = self.f_hat + self.quantizer.contribution(tokens, scale)
        self.inputs.append(self.quantizer.next_input(self.f_hat, scale + 1))


class Rounds:
    """Runs rounds until the first ``end`` scales of every image are committed.

    Args:
        strategy: the schedule, the rule, and where drafts come from.
        state: the decode.
        end: scales to verify; the last of them is never drafted.
    """

    def __init__(self, strategy: Speculative, state: DecodeState, end: int) -> None:
        self.rule, self.schedule = strategy.acceptance, strategy.schedule
        self.reuse = strategy.redraft == "target"
        self.state = state
        self.end = end
        self.gamma = [self.schedule.start] * state.batch
        self.picks = torch.zeros_like(state.maps.tokens)  # the target's, for scales after the one that fell
        self.picks_end = [0] * state.batch  # scale that they end before; none are left where it is settled

    def run(self) -> None:
        state, maps = self.state, self.state.maps
        while min(maps.scales) < self.end:
            scale = min(maps.scales)  # images that are ahead wait
            at_scale = [i for i in range(state.batch) if maps.scales[i] == scale]
            for (length, reuse, _), images in grouped(at_scale, self._plan):
                self._round(images, scale, length, reuse)

    def _plan(self, image: int) -> tuple[int, bool, int]:
        """Scales to draft, whether picks of the target serve as the draft, and what the target's cache holds."""
        scale, cached = self.state.maps.scales[image], self.state.stepper("target").cached[image]
        length = self.schedule.draft_length(self.state.pyramid, scale, cached, self.gamma[image])
        length = min(length, self.end - 1 - scale)
        left = self.picks_end[image] - scale
        if self.reuse and length and left > 0:
            return min(length, left), True, cached
        return length, False, cached

    def _round(self, images: list[int], scale: int, length: int, reuse: bool) -> None:
        """One round for images that share the first unsettled scale and the state of the target's cache."""
        state, maps, target = self.state, self.state.maps, self.state.stepper("target")
        drafted = self._reuse(images, scale, length) if reuse else self._draft(images, scale, length)

        # one pass over what the target's cache lacks, the drafted scales and the bonus scale after them
        first, last = target.cached[images[0]], scale + length + 1
        inputs = torch.cat((maps.committed_inputs(images, first, scale + 1), *drafted.inputs), dim=1)
        logits = state.pyramid.split(target.logits(images, inputs, first, last, wanted_from=scale), scale, last)

        alive = list(range(len(images)))  # rows of the group whose round goes on
        for k in range(length):
            if not alive:
                break
            stands = self._settle(images, alive, drafted, k, logits[k])
            fallen = [row for row, stood in zip(alive, stands) if not stood]
            self._end_round(images, fallen, scale, length, k, logits)
            alive = [row for row, stood in zip(alive, stands) if stood]
        if alive:
            survivors, rows = [images[row] for row in alive], rows_of(alive, range(len(images)), inputs.device)
            maps.commit(survivors, last - 1, state.pick(survivors, last - 1, logits[-1][rows]))
            self._end_round(images, alive, scale, length, length, logits)
        if log.isEnabledFor(logging.INFO):
            source = "none" if not length else "the target's last picks" if reuse else "the draft model"
            log.info(
                "scales %d-%d, drafted %d by %s: %d images, committed now %s, target calls %s",
                scale, last - 1, length, source, len(images),
                _spread([maps.scales[i] for i in images]), _spread([target.calls[i] for i in images]),
            )  # fmt: skip

    def _draft(self, images: list[int], scale: int, length: int) -> Drafted:
        """Draft with the draft model; its cache catches up in the first pass."""
        state, draft = self.state, self.state.stepper("draft")
        drafted = Drafted(state.maps, images, scale)
        for k in range(scale, scale + length):
            if k == scale:
                logits = state.next_logits("draft", images)
            else:
                logits = draft.logits(images, drafted.inputs[-1], k, k + 1, wanted_from=k)
            drafted.add(state.pick(images, k, logits))
            if self.rule.needs_draft_distribution:
                drafted.logits.append(logits)
        return drafted

    def _reuse(self, images: list[int], scale: int, length: int) -> Drafted:
        """Draft with what the target picked in the round before, at a prefix that has been corrected since."""
        drafted = Drafted(self.state.maps, images, scale)
        picks = self.picks[self.state.maps.rows(images)]
        for k in range(scale, scale + length):
            drafted.add(picks[:, self.state.pyramid.span(k, k + 1)])
        return drafted

    def _settle(self, images: list[int], alive: list[int], drafted: Drafted, k: int, logits: Tensor) -> list[bool]:
        """Judge and commit the k-th drafted scale for the rows still in the round; which of them go on."""
        state = self.state
        rows = rows_of(alive, range(len(images)), logits.device)
        scale, members, tokens = drafted.scale + k, [images[row] for row in alive], drafted.tokens[k][rows]
        draft_logits = drafted.logits[k][rows] if drafted.logits else None
        proposal = state.proposal(members, scale, tokens, logits[rows], draft_logits)
        with timed(state.clock, "sampling", scale, scale + 1):
            verdict = self.rule.judge(proposal)
        state.maps.commit(members, scale, verdict.tokens)
        # keys of the scales after this one were computed from the drafted tokens: they hold only if those were kept
        replaced = (verdict.tokens != tokens).any(1) | ~verdict.accepted
        # the only place of a round where the host waits for the device
        stands, replaced, agreed = torch.stack((verdict.accepted, replaced, verdict.agreed.sum(1))).tolist()
        for i, cut in zip(members, replaced):
            if cut:
                state.stepper("draft").truncate(i, scale + 1)
                state.stepper("target").truncate(i, scale + 1)
        rounds = [state.stepper("target").calls[i] - 1 for i in members]  # this one's pass is counted already
        state.counts.add(scale, tokens.shape[1], rounds, agreed, stands)
        if log.isEnabledFor(logging.INFO):
            share = sum(agreed) / tokens.numel()
            log.info("scale %d: %.3f of the tokens agree, %d of %d images go on", scale, share, sum(stands), len(alive))
        return [bool(stood) for stood in stands]

    def _end_round(
        self, images: list[int], rows: list[int], scale: int, length: int, stood: int, logits: Sequence[Tensor]
    ) -> None:
        """Note what the next round needs, for rows of the group of which ``stood`` of ``length`` scales stood."""
        members = [images[row] for row in rows]
        for i in members:
            self.picks_end[i] = 0
            if length:
                self.gamma[i] = self.schedule.after(self.gamma[i], length, stood)
        if self.reuse and members and stood < length:
            at, selected = self.state.maps.rows(members), rows_of(rows, range(len(images)), self.picks.device)
            for k in range(stood + 1, length + 1):
                picked = self.state.pick(members, scale + k, logits[k][selected])
                self.picks[at, self.state.pyramid.span(scale + k, scale + k + 1)] = picked
            for i in members:
                self.picks_end[i] = scale + length + 1


def _spread(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
