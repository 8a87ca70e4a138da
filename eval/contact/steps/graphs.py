"""Step: passes replayed as CUDA graphs, each replay checked for memory that is gone."""

from __future__ import annotations

import torch

import sdvar
from eval.contact.batches import decode
from eval.contact.step import SAMPLING, Outcome, Place, judged
from sdvar.models.running.cuda_graphs import checked_inputs

IMAGES = 8
STRATEGIES = (sdvar.Baseline(), sdvar.Speculative(2), sdvar.Handoff(2))


def run(place: Place) -> Outcome:
    """Passed where the tokens are those without graphs, in the decode that captures and in the next one."""
    plain = sdvar.Engine(graphs=False).apply(place.pair(torch.float32))
    expected = [decode(plain, IMAGES, strategy, SAMPLING) for strategy in STRATEGIES]
    pair, problems = sdvar.Engine(graphs=True).apply(plain), []
    with checked_inputs() as checked:
        for strategy, wanted in zip(STRATEGIES, expected):
            for turn in ("captured", "replayed"):
                if differ := decode(pair, IMAGES, strategy, SAMPLING).differing(wanted):
                    problems.append(f"{strategy}, {turn}: {differ} of {IMAGES} images have other tokens with graphs")
    seconds = pair.target.capture_seconds + pair.draft.capture_seconds
    if not seconds:
        problems.append("no pass was captured; the warnings say why")
    liveness = "what a replay reads was checked" if checked else "this torch cannot check what a replay reads"
    return judged(
        problems, f"{len(STRATEGIES)} strategies have the same tokens with graphs; {liveness}",
        capture_seconds=seconds, input_liveness_checked=checked,
    )  # fmt: skip
