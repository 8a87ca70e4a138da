"""Measures on this machine how long the steps of a decode take."""

from __future__ import annotations

import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median

import torch

from sdvar.decoding.acceptance import Coupled
from sdvar.decoding.logits import Logits
from sdvar.decoding.state import DecodeState, TokenMaps
from sdvar.decoding.strategies.rounds import Drafted
from sdvar.decoding.timing import now
from sdvar.models.running.cuda_graphs import no_captures
from sdvar.pair import ModelPair
from sdvar.planning.costs import (
    BEGIN_DRAFT,
    BEGIN_TARGET,
    NOISE,
    ONCE,
    CostTable,
    Step,
    cost_table,
    draft_pass,
    every_step,
    group_sizes,
)
from sdvar.planning.inputs import labels_and_seeds
from sdvar.sampling import Sampling

log = logging.getLogger("sdvar.planning")

MOST_ROUNDS = 25  # measurements of a step; more would not change the median
Point = tuple[Step, int]


@torch.no_grad()
def measure_costs(pair: ModelPair, sampling: Sampling, batch: int, seconds: float, handoffs: bool = False) -> CostTable:
    """The cost table of a batch size, from a state whose caches and token maps contain whole images.

    Each step and group size is measured repeatedly, in turns and in an order that is shuffled once, while time remains;
    its median counts. Some are measured at least once whatever that takes: every step that is not a pass, and of the
    passes the single scales and the whole pyramid, for one image and for the batch. Other passes for which no time
    remains are estimated, see `sdvar.planning.costs.cost_table`.

    Args:
        pair, sampling: what decodes.
        batch: B.
        seconds: the time to spend.
        handoffs: whether the passes of a hand-off from draft to target are among the steps.
    """
    steps, sizes = every_step(len(pair.pyramid), handoffs), group_sizes(batch)
    needed, others = _points(steps, sizes)
    for points in (needed, others):
        random.Random(0).shuffle(points)
    probe, started = _Probe(pair, sampling, batch), time.perf_counter()
    measured: dict[Point, list[float]] = defaultdict(list)
    for index, point in enumerate([*needed, *others] * MOST_ROUNDS):
        if index >= len(needed) and time.perf_counter() - started > seconds:
            break
        if point not in measured:
            probe.seconds(*point)  # first runs take longer
        with no_captures():
            measured[point].append(probe.seconds(*point))
    probe.state.close()
    every = len(needed) + len(others)
    log.info("costs: measured %d of %d%s", len(measured), every, "" if len(measured) == every else ", others estimated")
    medians = {point: median(times) for point, times in measured.items()}
    guided_scales = {which: getattr(pair, which).guided_scales(sampling) for which in ("draft", "target")}
    return cost_table(medians, steps, pair.pyramid, batch, pair.target.graphs, guided_scales)


def _points(steps: Sequence[Step], sizes: Sequence[int]) -> tuple[list[Point], list[Point]]:
    """What is measured whatever it takes, and all other passes."""
    needed: list[Point] = []
    others: list[Point] = []
    scales = max(step.last for step in steps)
    for step in steps:
        if step in ONCE:
            needed.append((step, sizes[-1]))
        elif step.op not in ("draft", "target"):
            needed += [(step, size) for size in sizes]
        else:
            must = {sizes[0], sizes[-1]} if step.last - step.first in (1, scales - 1) else set()
            needed += [(step, size) for size in sizes if size in must]
            # the target reads the first of its scales of the whole batch at once
            read = sizes[-1:] if step[:2] == ("target", 1) else sizes
            others += [(step, size) for size in read if size not in must]
    return needed, others


class _Probe:
    """Runs single steps of a decode.

    Caches and token maps contain whole images. A pass reads what it would in a decode and writes what is there
    already, so the order in which steps are measured does not matter.
    """

    def __init__(self, pair: ModelPair, sampling: Sampling, batch: int) -> None:
        self.pair, self.sampling, self.batch = pair, sampling, batch
        self.inputs = labels_and_seeds(batch, 0, pair.num_classes, pair.device)
        self.begins = {which: self._begin_seconds(which) for which in ("draft", "target")}
        state = self.state = DecodeState(pair, *self.inputs, sampling)
        state.decode_plain("target", len(pair.pyramid))
        state.stepper("draft")
        if len(pair.pyramid) > 1:
            self._pass(draft_pass(1, len(pair.pyramid) - 1), range(batch))
        state.maps.place(0)  # the noise of all scales is kept from here on
        self.spare = TokenMaps(pair.tokenizer.quantize, batch)  # commits go there
        self.rule = Coupled()
        self.like = self._some_logits(1, 0).guided

    def seconds(self, step: Step, size: int) -> float:
        """Run a step once for ``size`` images."""
        if step in (BEGIN_DRAFT, BEGIN_TARGET):
            return self.begins[step.op.removeprefix("begin_")]
        work = self._work(step, list(range(size)))
        started = now(self.pair.device)
        work()
        taken = now(self.pair.device) - started
        if step.op in ("draft", "target"):
            self.state.stepper(step.op).check_finite()  # on a GPU a decode asks once, at its end
        return taken

    def _begin_seconds(self, which: str) -> float:
        taken = []
        for _ in range(4):
            state = DecodeState(self.pair, *self.inputs, self.sampling)
            started = now(self.pair.device)
            state.stepper(which)
            taken.append(now(self.pair.device) - started)
            state.close()
        return median(taken[1:])

    def _work(self, step: Step, images: list[int]) -> Callable[[], object]:
        """The work to time; its preparation is done before."""
        if step.op in ("draft", "target"):
            return lambda: self._pass(step, images)
        if step == NOISE:
            return self._noise
        state, scale = self.state, step.first
        logits = self._some_logits(len(images), scale)
        drafted = state.pick(images, scale, logits)  # the noise is made here
        self.spare.place(scale)
        if step.op == "propose":
            return lambda: Drafted(state.maps, images, scale).add(state.pick(images, scale, logits))
        if step.op == "commit":
            return lambda: self.spare.commit(images, scale, state.pick(images, scale, logits))
        return lambda: self._settle(images, scale, logits, drafted)

    def _some_logits(self, images: int, scale: int) -> Logits:
        """As a pass gives them: with tokens where a kernel picks, whose time is the pass's then."""
        shape = images, self.pair.pyramid.tokens[scale], self.pair.target.codebook_size
        guided = torch.randn(shape, dtype=self.pair.target.logits_dtype, device=self.pair.device)
        picked = torch.zeros(shape[:2], dtype=torch.int64, device=self.pair.device) if self._fused else None
        return Logits(lambda: guided, picked)

    @property
    def _fused(self) -> bool:
        return self.state.stepper("target").fused_pick is not None

    def _noise(self) -> None:
        if self._fused:  # it is never in memory
            return
        state = DecodeState(self.pair, *self.inputs, self.sampling)
        for scale in range(len(self.pair.pyramid)):
            state.gumbel(range(self.batch), scale, self.like)

    def _pass(self, step: Step, images: Sequence[int]) -> None:
        state, stepper = self.state, self.state.stepper(step.op)
        stepper.hold(images, step.first)
        inputs = state.maps.committed_inputs(images, step.first, step.last)
        logits = stepper.run(images, inputs, step.first, step.last, wanted_from=step.wanted)
        logits.split(state.pyramid.tokens[step.wanted : step.last])

    def _settle(self, images: list[int], scale: int, logits: Logits, drafted: torch.Tensor) -> None:
        proposal = self.state.proposal(images, scale, drafted, logits)
        verdict = self.rule.judge(proposal)
        self.spare.commit(images, scale, verdict.tokens)
        replaced = (verdict.tokens != proposal.drafted).any(1) | ~verdict.accepted
        torch.stack((verdict.accepted, replaced, verdict.agreed.sum(1))).tolist()
