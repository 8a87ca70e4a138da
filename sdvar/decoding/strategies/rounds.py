"""The rounds of speculative decoding: draft scales, verify them in one target pass, commit what the rule accepts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sdvar.decoding.acceptance import Acceptance, Coupled
from sdvar.decoding.logits import Logits
from sdvar.decoding.schedule import Schedule
from sdvar.decoding.state import DecodeState, TokenMaps, grouped
from sdvar.decoding.timing import timed
from sdvar.rows import rows_of

log = logging.getLogger("sdvar.rounds")


class Drafted:
    """Drafted scales of n images, and the target's inputs that follow from them.

    Args:
        maps: what is committed; it is not changed.
        images: their numbers.
        scale: the first drafted scale.

    Attributes:
        tokens: one int64 (n, n_k) per drafted scale.
        f_hats: one (n, C_vae, S, S) per drafted scale: f-hat after it.
        inputs: one (n, n_k, C_vae) per drafted scale: the input of the scale after it.
        logits: one (n, n_k, V) per drafted scale; empty where the rule does not read them.
        agreed: for each image how many tokens of each scale are the target's picks; empty unless a kernel has counted.
    """

    def __init__(self, maps: TokenMaps, images: Sequence[int], scale: int) -> None:
        self.quantizer = maps.quantizer
        self.images, self.scale = images, scale
        self.f_hat = maps.f_hat[maps.rows(images)]
        self.tokens: list[Tensor] = []
        self.f_hats: list[Tensor] = []
        self.inputs: list[Tensor] = []
        self.logits: list[Tensor] = []
        self.agreed: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, tokens: Tensor) -> None:
        """Append the next scale, int64 (n, n_k)."""
        scale = self.scale + len(self)
        self.tokens.append(tokens)
        self.f_hat = self.quantizer.added(self.f_hat, self.quantizer.embedding(tokens), scale)
        self.f_hats.append(self.f_hat)
        self.inputs.append(self.quantizer.next_input(self.f_hat, scale + 1))

    def rows(self, images: Sequence[int]) -> Tensor | slice:
        """Selects some of its images from tensors of n rows."""
        return rows_of(images, self.images, self.f_hat.device)


class Judged(NamedTuple):
    """A drafted scale of n images, judged; a list has a number per image.

    Attributes:
        images: their numbers.
        tokens: int64 (n, n_k) to commit.
        accepted: whether the scale is accepted.
        replaced: whether what follows from the drafted tokens is void: others are committed, or the scale is rejected.
        agreed: tokens that passed the rule's token test.
    """

    images: Sequence[int]
    tokens: Tensor
    accepted: Sequence[int]
    replaced: Sequence[int]
    agreed: Sequence[int]

    def of(self, images: Sequence[int]) -> Judged:
        """The same of some of the images."""
        rows = [self.images.index(i) for i in images]
        numbers = ([values[row] for row in rows] for values in self[2:])
        return Judged(images, self.tokens[rows_of(images, self.images, self.tokens.device)], *numbers)


class Rounds:
    """Runs rounds until the first ``end`` scales of every image are committed.

    Args:
        state: the decode.
        schedule: how many scales a round drafts.
        rule: what judges them.
        reuse: whether drafts are what the target picked in the last round, where there is any.
        end: scales to verify; the last of them is never drafted.
    """

    def __init__(self, state: DecodeState, schedule: Schedule, rule: Acceptance, reuse: bool, end: int) -> None:
        self.rule, self.schedule, self.reuse = rule, schedule, reuse
        self.state, self.maps, self.end = state, state.maps, end
        self.progress = state.maps.progress
        for image in self.progress:
            image.gamma = self.schedule.start
        # on a CPU asking costs nothing, and what was drafted after a rejected scale need not be judged
        self.ahead = state.maps.tokens.device.type != "cpu"
        self.picks = torch.empty_like(state.maps.tokens)  # the target's, for scales after a rejected one

    def run(self) -> None:
        if self.end:
            self.state.decode_plain("target", 1)  # it takes no pass, so nothing is gained by drafting it
        while (scale := min(image.committed for image in self.progress)) < self.end:
            behind = [i for i, image in enumerate(self.progress) if image.committed == scale]  # the others wait
            for (length, reuse, _), images in grouped(behind, self._plan):
                self._round(images, scale, length, reuse)

    def _plan(self, image: int) -> tuple[int, bool, int]:
        """Scales to draft, whether picks of the target serve as the draft, and scales in the target's cache."""
        progress = self.progress[image]
        scale, cached = progress.committed, progress.target.cached
        length = self.schedule.draft_length(self.state.pyramid, scale, cached, progress.gamma)
        length = min(length, self.end - 1 - scale)
        left = progress.picks_end - scale
        if self.reuse and length and left > 0:
            return min(length, left), True, cached
        return length, False, cached

    def _round(self, images: list[int], scale: int, length: int, reuse: bool) -> None:
        """One round of images that share their next scale and how much the target's cache contains."""
        if length:
            self._speculate(images, scale, length, reuse)
        else:
            self.state.step_plain("target", images, scale)  # as the baseline does: no draft is asked for
            for i in images:
                self.progress[i].picks_end = 0
        if log.isEnabledFor(logging.INFO):
            source = "none" if not length else "the target's last picks" if reuse else "the draft model"
            log.info(
                "scales %d-%d, drafted %d by %s: %d images, committed now %s, target calls %s",
                scale, scale + length, length, source, len(images),
                _spread([self.progress[i].committed for i in images]),
                _spread([self.progress[i].target.calls for i in images]),
            )  # fmt: skip

    def _speculate(self, images: list[int], scale: int, length: int, reuse: bool) -> None:
        drafted = self._reuse(images, scale, length) if reuse else self._draft(images, scale, length)
        logits = self._verify(drafted)
        accepted = images  # those whose drafted scales are all accepted so far
        judged = self._judge_ahead(drafted, logits) if self.ahead or drafted.agreed else []
        for k in range(length):
            if accepted:
                of_scale = judged[k].of(accepted) if judged else self._judge(accepted, drafted, k, logits[k])
                accepted, rejected = self._commit(of_scale, drafted, k)
                self._end(rejected, drafted, k, logits)
        if accepted:
            bonus = scale + length
            picked = self.state.pick(accepted, bonus, logits[-1][drafted.rows(accepted)])
            self.maps.commit(accepted, bonus, picked)
            self._end(accepted, drafted, length, logits)

    def _draft(self, images: list[int], scale: int, length: int) -> Drafted:
        """Draft with the draft model; its cache catches up in the first pass."""
        state, draft = self.state, self.state.stepper("draft")
        drafted = Drafted(self.maps, images, scale)
        for k in range(scale, scale + length):
            if k == scale:
                logits = state.next_logits("draft", images, guided=self.rule.needs_draft_distribution)
            else:
                logits = draft.run(images, drafted.inputs[-1], k, k + 1, wanted_from=k)
            drafted.add(state.pick(images, k, logits))
            if self.rule.needs_draft_distribution:
                drafted.logits.append(logits.guided)
        return drafted

    def _reuse(self, images: list[int], scale: int, length: int) -> Drafted:
        """Draft with what the target picked in the round before, from a prefix that has been corrected since."""
        drafted = Drafted(self.maps, images, scale)
        picks = self.picks[self.maps.rows(images)]
        for k in range(scale, scale + length):
            drafted.add(picks[:, self.state.pyramid.span(k, k + 1)])
        return drafted

    def _verify(self, drafted: Drafted) -> Sequence[Logits]:
        """The target's guided logits of the drafted scales and of the bonus scale after them.

        One pass, over what the target's cache lacks as well.
        """
        pyramid, images, scale = self.state.pyramid, drafted.images, drafted.scale
        first, last = self.progress[images[0]].target.cached, scale + len(drafted) + 1
        inputs = torch.cat((self.maps.committed_inputs(images, first, scale + 1), *drafted.inputs), dim=1)
        compared = drafted.tokens if type(self.rule) is Coupled else ()
        logits = self.state.stepper("target").run(images, inputs, first, last, wanted_from=scale, drafted=compared)
        if logits.agreed is not None:
            drafted.agreed = logits.agreed.tolist()  # here the host waits for the device
        return logits.split(pyramid.tokens[scale:last])

    def _judge_ahead(self, drafted: Drafted, logits: Sequence[Logits]) -> list[Judged]:
        """Every drafted scale, of all images, whether those before it are accepted or not: the host waits once."""
        if drafted.agreed:
            return [self._compared(drafted, k, logits[k]) for k in range(len(drafted))]
        every = [self._verdict(drafted.images, drafted, k, logits[k]) for k in range(len(drafted))]
        numbers = torch.stack([outcomes for _, outcomes in every]).tolist()  # the only place of a round where it waits
        return [Judged(drafted.images, tokens, *of_scale) for (tokens, _), of_scale in zip(every, numbers)]

    def _compared(self, drafted: Drafted, k: int, logits: Logits) -> Judged:
        """The k-th drafted scale under `Coupled`, where a kernel has counted the tokens that agree."""
        agreed, count = [each[k] for each in drafted.agreed], drafted.tokens[k].shape[1]
        differs = [number < count for number in agreed]
        tokens = self.state.pick(drafted.images, drafted.scale + k, logits)
        return Judged(drafted.images, tokens, [not each for each in differs], differs, agreed)

    def _judge(self, images: list[int], drafted: Drafted, k: int, logits: Logits) -> Judged:
        """The k-th drafted scale of some images."""
        tokens, outcomes = self._verdict(images, drafted, k, logits)
        return Judged(images, tokens, *outcomes.tolist())

    def _verdict(self, images: Sequence[int], drafted: Drafted, k: int, logits: Logits) -> tuple[Tensor, Tensor]:
        """The tokens to commit at the k-th drafted scale, (n, n_k), and int64 (3, n) of `Judged`'s numbers."""
        state, scale, rows = self.state, drafted.scale + k, drafted.rows(images)
        tokens = drafted.tokens[k][rows]
        draft_logits = drafted.logits[k][rows] if drafted.logits else None
        proposal = state.proposal(images, scale, tokens, logits[rows], draft_logits)
        with timed(state.clock, "sampling", scale, scale + 1):
            verdict = self.rule.judge(proposal)
        replaced = (verdict.tokens != tokens).any(1) | ~verdict.accepted
        return verdict.tokens, torch.stack((verdict.accepted, replaced, verdict.agreed.sum(1)))

    def _commit(self, judged: Judged, drafted: Drafted, k: int) -> tuple[list[int], list[int]]:
        """Commit the k-th drafted scale: the images whose scale is accepted, and the others."""
        state, scale, images = self.state, drafted.scale + k, judged.images
        if any(judged.replaced):
            self.maps.commit(images, scale, judged.tokens)
        else:  # what follows from the drafted tokens is there already
            rows = drafted.rows(images)
            self.maps.adopt(images, scale, judged.tokens, drafted.f_hats[k][rows], drafted.inputs[k][rows])
        # keys of the scales after this one were computed from the drafted tokens: they are valid only if these are kept
        for which in ("draft", "target"):
            state.stepper(which).truncate([i for i, yes in zip(images, judged.replaced) if yes], scale + 1)
        rounds = [self.progress[i].target.calls - 1 for i in images]  # this one's pass is counted already
        state.counts.add(scale, judged.tokens.shape[1], rounds, judged.agreed, judged.accepted)
        if log.isEnabledFor(logging.INFO):
            share = sum(judged.agreed) / judged.tokens.numel()
            log.info("scale %d: %.3f of the tokens agree, accepted for %d of %d images", scale, share,
                     sum(judged.accepted), len(images))  # fmt: skip
        passed = dict(zip(images, judged.accepted))
        return [i for i in images if passed[i]], [i for i in images if not passed[i]]

    def _end(self, images: list[int], drafted: Drafted, accepted: int, logits: Sequence[Logits]) -> None:
        """Note what the next round needs, for images of which so many of the drafted scales were accepted."""
        length, pyramid = len(drafted), self.state.pyramid
        for i in images:
            progress = self.progress[i]
            progress.picks_end = 0
            progress.gamma = self.schedule.after(progress.gamma, length, accepted)
        if self.reuse and images and accepted < length:
            rows = drafted.rows(images)
            for k in range(accepted + 1, length + 1):
                scale = drafted.scale + k
                picked = self.state.pick(images, scale, logits[k][rows])
                self.picks[self.maps.rows(images), pyramid.span(scale, scale + 1)] = picked
            for i in images:
                self.progress[i].picks_end = drafted.scale + length + 1


def _spread(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
