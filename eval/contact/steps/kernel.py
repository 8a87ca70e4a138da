"""Step: the Triton kernel that picks tokens, against torch's operations."""

from __future__ import annotations

from types import ModuleType

import torch

import sdvar
from eval.contact.batches import decode
from eval.contact.step import LARGE_SAMPLING, SAMPLING, SKIPPED, Outcome, Place, judged
from sdvar import noise
from sdvar.kernels.selection import PICK, torch_alone
from sdvar.sampling import pick

VOCABULARY, IMAGES, POSITIONS, GUIDANCE = 4096, 4, 256, 1.5
TIE = 1e-5  # scores nearer than this differ by the rounding of two logarithms
FILTERS = (sdvar.Sampling(), sdvar.Sampling(top_k=900), sdvar.Sampling(top_p=0.96), LARGE_SAMPLING)


def run(place: Place) -> Outcome:
    """Passed where it picks the same tokens, from random logits and in whole decodes; skipped where it does not run."""
    try:
        from sdvar.kernels import pick as kernel

        ties, problems = _on_logits(kernel, place.device)
    except Exception as error:  # no Triton, no C compiler, an old driver, each with an error of its own
        reason = " ".join(str(error).split())[:300]
        return Outcome(f"it does not run here, torch's operations pick in its place, slower: {reason}", SKIPPED)
    pair = sdvar.Engine(graphs=False).apply(place.pair(torch.float32))
    for strategy in (sdvar.Baseline(), sdvar.Speculative(2)):
        with torch_alone(PICK):
            expected = decode(pair, IMAGES, strategy, SAMPLING)
        if differ := decode(pair, IMAGES, strategy, SAMPLING).differing(expected):
            problems.append(f"{strategy}: {differ} of {IMAGES} images have other tokens with the kernel")
    picks = len(FILTERS) * IMAGES * POSITIONS
    return judged(problems, f"{picks:,} picks with {len(FILTERS)} filters are torch's, {ties} of them near-ties")


def _on_logits(kernel: ModuleType, device: torch.device) -> tuple[int, list[str]]:
    """Picks from random logits that differ by a tie, and what is wrong."""
    generator, ties, problems = torch.Generator().manual_seed(0), 0, []
    raw = (3 * torch.randn(2 * IMAGES, POSITIONS, VOCABULARY, generator=generator)).to(device)
    seeds = torch.arange(IMAGES).to(device)
    places = torch.arange(POSITIONS, dtype=torch.int32).to(device)
    guidance = torch.full((POSITIONS,), GUIDANCE).to(device)
    positions = kernel.Positions(torch.full_like(places, 9), places, guidance, None)
    of_class, of_null = raw.chunk(2)
    guided = (1 + guidance[:, None]) * of_class - guidance[:, None] * of_null
    gumbel = noise.gumbel(seeds, "pick", 9, POSITIONS, VOCABULARY, guided.dtype)
    for sampling in FILTERS:
        picked = kernel.pick(raw, positions, 0, seeds, sampling)
        filtered = sampling.filtered(guided)
        scores = filtered + gumbel
        ours = scores.gather(-1, picked.tokens[..., None])[..., 0]
        gap = (scores.amax(-1) - ours).max().item()
        if not gap <= TIE or not picked.finite.all():
            problems.append(f"{sampling}: the kernel picks a token that falls short of torch's by a score of {gap:.2g}")
        ties += int((picked.tokens != pick(filtered, gumbel)).sum())
    return ties, problems
