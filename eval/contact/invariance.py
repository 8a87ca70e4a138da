"""Step: an image is the same in every batch, and with `Coupled` as with `Baseline`, in bfloat16."""

from __future__ import annotations

import torch

import sdvar
from eval.benchmarking.models import random_pair
from eval.contact.batches import decode
from eval.contact.step import LARGE_SAMPLING, SAMPLING, Outcome, Place, judged

ODD = 7  # images together, which no kernel is made for
ALONE = 4  # images decoded one by one
SIZE, LAYERS = "d16", 8


def run(place: Place) -> Outcome:
    """Passed where tokens and pixels are equal to the bit."""
    problems = _check(place.pair(torch.bfloat16), SAMPLING, place.images)
    names = "the bundled pair"
    if not place.tiny:
        large = random_pair([SIZE], torch.bfloat16, place.device)
        large.tokenizer.drop_encoder()
        draft = sdvar.draft_of(large.target, f"target:first={LAYERS}")
        problems += _check(sdvar.ModelPair(draft, large.target, large.tokenizer), LARGE_SAMPLING, place.images)
        names += f" and of {SIZE} with random weights"
    finding = (
        f"images of {names} are the same in batches of 1, {ODD} and {place.images}, and by Coupled as by Baseline, "
        "in bfloat16"
    )
    return judged(problems, finding)


def _check(pair: sdvar.ModelPair, sampling: sdvar.Sampling, images: int) -> list[str]:
    sdvar.Engine(graphs=True).apply(pair)
    name = f"depth {pair.target.depth}"
    whole = decode(pair, images, sdvar.Baseline(), sampling, images=True)
    others = {
        f"batches of {ODD}": decode(pair, images, sdvar.Baseline(), sampling, ODD, images=True),
        "batches of 1": decode(pair, min(images, ALONE), sdvar.Baseline(), sampling, 1, images=True),
        "Coupled": decode(pair, images, sdvar.Speculative(2), sampling, images=True),
    }
    problems = []
    for what, other in others.items():
        count = len(other.tokens)
        if differ := other.differing(whole):
            problems.append(f"{name}, {what}: {differ} of {count} images have other tokens than a batch of {images}")
        elif changed := other.changed_pixels(whole):
            problems.append(f"{name}, {what}: {changed:,} numbers of the pixels of {count} images differ")
    return problems
