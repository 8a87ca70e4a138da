"""Step: a second GPU decodes what the first one does, while the first is the current device."""

from __future__ import annotations

import torch

import sdvar
from eval.contact.batches import decode
from eval.contact.step import SAMPLING, SKIPPED, Outcome, Place, judged

IMAGES = 4


def run(place: Place) -> Outcome:
    """Passed where tokens are equal in float64, with graphs."""
    if torch.cuda.device_count() < 2:
        return Outcome("one GPU", SKIPPED)
    other, problems = torch.device("cuda", 1 - (place.device.index or 0)), []
    engine = sdvar.Engine(graphs=True)
    first, second = (engine.apply(place.pair(torch.float64, device)) for device in (place.device, other))
    for strategy in (sdvar.Baseline(), sdvar.Speculative(2)):
        expected = decode(first, IMAGES, strategy, SAMPLING)
        for turn in ("captured", "replayed"):
            if differ := decode(second, IMAGES, strategy, SAMPLING).differing(expected):
                problems.append(f"{strategy} on {other}, {turn}: {differ} of {IMAGES} images have other tokens")
    return judged(problems, f"{other} decodes what {place.device} does")
