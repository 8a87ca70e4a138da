"""Step: decoding operation by operation, with neither graphs nor kernels of the project's own, against the CPU."""

from __future__ import annotations

import torch

import sdvar
from eval.contact.batches import decode, joined, labels_of
from eval.contact.step import SAMPLING, Outcome, Place, judged, moved
from sdvar.kernels.selection import torch_alone

IMAGES = 4
STRATEGIES = (
    sdvar.Baseline(),
    sdvar.Speculative(2),
    sdvar.Speculative(2, sdvar.Rejection()),
    sdvar.Handoff(2),
    sdvar.Handoff(2, "target"),
)
PIXEL = 1e-3  # largest difference of a pixel in [0, 1] that float32 rounding explains


def run(place: Place) -> Outcome:
    """Passed where tokens are equal in float64, and but for near-ties in float32, and pixels are within rounding."""
    with torch_alone():
        problems = _in_float64(place)
        ties, pixels = _in_float32(place, problems)
    finding = (
        f"{len(STRATEGIES)} strategies give the CPU's tokens in float64; in float32 {ties} of {IMAGES} images differ, "
        f"by near-ties, pixels by {pixels:.1g} at most"
    )
    return judged(problems, finding, near_ties=ties, largest_pixel_difference=pixels)


def _in_float64(place: Place) -> list[str]:
    pair, problems = place.load(torch.float64), []
    expected = [decode(pair, IMAGES, strategy, SAMPLING) for strategy in STRATEGIES]
    pair = sdvar.Engine(graphs=False).apply(moved(pair, place.device))
    for strategy, wanted in zip(STRATEGIES, expected):
        if differ := decode(pair, IMAGES, strategy, SAMPLING).differing(wanted):
            problems.append(f"{strategy}: {differ} of {IMAGES} images have other tokens than on the CPU, in float64")
    return problems


def _in_float32(place: Place, problems: list[str]) -> tuple[int, float]:
    """Images that differ by a near-tie, and the largest difference of a pixel; adds to the problems."""
    labels = labels_of(pair := place.load(torch.float32), IMAGES)

    def images() -> sdvar.DecodeResult:
        return sdvar.decode(pair, labels, range(IMAGES), sdvar.Baseline(), SAMPLING)

    expected = images()
    sdvar.Engine(graphs=False, tokenizer_dtype="float32").apply(moved(pair, place.device))
    ours = images()
    tokens = [part.cpu() for part in ours.tokens]
    gaps = sdvar.first_differences(pair, labels, range(IMAGES), SAMPLING, tokens, expected.tokens)
    gaps = gaps[~gaps.isnan()]
    if (gaps >= sdvar.NEAR_TIE).any():
        problems.append(f"float32: a token differs from the CPU's by a score of {gaps.max().item():.2g}, no near-tie")
    same = (joined(tokens) == joined(expected.tokens)).all(1)
    difference = (ours.images.cpu() - expected.images).abs()[same]
    largest = difference.max().item() if len(difference) else 0.0
    if not largest <= PIXEL:  # also NaN
        problems.append(f"float32: pixels of equal tokens differ from the CPU's by {largest:.2g}")
    return len(gaps), largest
