"""Step: an image is the same in every batch, and with `Coupled` as with `Baseline`, in bfloat16."""

from __future__ import annotations

import torch

import sdvar
from eval.benchmarking.models import random_pair
from eval.contact.batches import decode
from eval.contact.step import LARGE_SAMPLING, SAMPLING, Outcome, Place, judged
from eval.estimates.memory import check_batch, decode_bytes, free_bytes, largest_batch

ODD = 7  # images together, which no kernel is made for
ALONE = 4  # images decoded one by one
SIZE, LAYERS = "d16", 8


def run(place: Place) -> Outcome:
    """Passed where tokens and pixels are equal to the bit."""
    pair = place.pair(torch.bfloat16)
    sizes = [_fitting(pair, place.images)]
    problems = _check(pair, SAMPLING, sizes[0])
    names = "the bundled pair"
    if not place.tiny:
        large = random_pair([SIZE], torch.bfloat16, place.device)
        large.tokenizer.drop_encoder()
        pair = sdvar.ModelPair(sdvar.draft_of(large.target, f"target:first={LAYERS}"), large.target, large.tokenizer)
        sizes.append(_fitting(pair, place.images))
        problems += _check(pair, LARGE_SAMPLING, sizes[1])
        names += f" and of {SIZE} with random weights"
    batches = f"1, {ODD} and {' or '.join(map(str, dict.fromkeys(sizes)))}"
    finding = f"images of {names} are the same in batches of {batches}, and by Coupled as by Baseline, in bfloat16"
    return judged(problems, finding)


def _fitting(pair: sdvar.ModelPair, images: int) -> int:
    """So many images, or fewer on a small GPU; ValueError if not even one fits."""
    sdvar.Engine(graphs=True).apply(pair)

    def needed(batch: int) -> int:
        return decode_bytes(pair, sdvar.Speculative(2), batch)

    free = free_bytes(pair.device)
    if needed(images) > free:
        images = largest_batch(needed, free)
        check_batch(max(1, images), needed, free)
    return images


def _check(pair: sdvar.ModelPair, sampling: sdvar.Sampling, images: int) -> list[str]:
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
