"""Every outcome of a tiny pyramid, its exact probability, and the chi-square test of a strategy against them."""

from __future__ import annotations

import functools
from typing import NamedTuple

import scipy.stats
import torch
from torch import Tensor

import sdvar
from tests.random_pairs import random_var

SAMPLES = 20_000
BATCH = 2_000  # the fastest on one thread: larger batches leave the processor's cache


class Tiny(NamedTuple):
    """Token maps so small that all their outcomes can be listed.

    Attributes:
        patch_nums, vocabulary: V ** L outcomes.
        label: the class that is decoded.
        scales: outcomes are those of the first so many scales, None for all.
    """

    patch_nums: tuple[int, ...]
    vocabulary: int
    label: int
    scales: int | None = None

    @property
    def tokens(self) -> int:
        return sdvar.ScalePyramid(self.patch_nums).offsets[self.last]

    @property
    def last(self) -> int:
        return len(self.patch_nums) if self.scales is None else self.scales


@functools.cache
def tiny_pair(tiny: Tiny, dtype: torch.dtype) -> sdvar.ModelPair:
    """An unrelated draft and target of one block each, with soft logits, over a random tokenizer."""
    sizes = {"depth": 1, "width": 16, "vocabulary": tiny.vocabulary, "head": 0.8}
    draft, target = random_var(tiny.patch_nums, seed=1, **sizes), random_var(tiny.patch_nums, seed=2, **sizes)
    for block in (*draft.blocks, *target.blocks):
        block.attn.proj.weight.data.mul_(3)  # what the cache holds is to matter
    torch.manual_seed(3)
    tokenizer = sdvar.VQVAE(tiny.patch_nums, tiny.vocabulary, 8, base_channels=32, channel_multipliers=(1, 1))
    return sdvar.ModelPair(draft.to(dtype), target.to(dtype), tokenizer.to(dtype))


@functools.cache
@torch.no_grad()
def exact_probabilities(tiny: Tiny, sampling: sdvar.Sampling) -> Tensor:
    """The target's probability of every outcome, by teacher forcing in float64.

    Guidance is written out here, not taken from the package.

    Returns:
        float64 (V ** tokens,), in the order of ``outcome_numbers``.
    """
    pair = tiny_pair(tiny, torch.float64)
    outcomes = torch.cartesian_prod(*[torch.arange(tiny.vocabulary)] * tiny.tokens)
    later = outcomes.new_zeros(len(outcomes), pair.pyramid.length - tiny.tokens)  # decide nothing before them
    tokens = pair.pyramid.split(torch.cat((outcomes, later), dim=1))
    inputs = pair.tokenizer.var_inputs(list(tokens))
    of_class, of_null = (
        pair.pyramid.split(pair.target(torch.full((len(outcomes),), label), inputs))
        for label in (tiny.label, pair.num_classes)
    )
    probability = torch.ones(len(outcomes), dtype=torch.float64)
    for k in range(tiny.last):
        cfg = sampling.cfg[k] if isinstance(sampling.cfg, tuple) else sampling.cfg
        t = cfg * k / (len(pair.pyramid) - 1)
        guided = ((1 + t) * of_class[k] - t * of_null[k]) / sampling.temperature
        p = sdvar.filtered_probabilities(guided, sampling.top_k, sampling.top_p)  # (outcomes, n_k, V)
        probability *= p.gather(-1, tokens[k][..., None]).squeeze(-1).prod(1)
    return probability


def outcome_numbers(tokens: list[Tensor], vocabulary: int) -> Tensor:
    """The number of each image's outcome: its tokens read as digits, int64 (B,)."""
    digits = torch.cat(tokens, dim=1)
    weights = vocabulary ** torch.arange(digits.shape[1] - 1, -1, -1)
    return (digits * weights).sum(1)


def sampled_counts(tiny: Tiny, sampling: sdvar.Sampling, strategy: sdvar.Strategy, first_seed: int = 0) -> Tensor:
    """How often each outcome came out of ``SAMPLES`` decodes in float32: int64 (V ** tokens,)."""
    pair = tiny_pair(tiny, torch.float32)
    counts = torch.zeros(tiny.vocabulary**tiny.tokens, dtype=torch.int64)
    for start in range(first_seed, first_seed + SAMPLES, BATCH):
        seeds = range(start, start + BATCH)
        tokens = sdvar.decode(pair, [tiny.label] * BATCH, seeds, strategy, sampling, images=False).tokens
        counts += outcome_numbers(tokens[: tiny.last], tiny.vocabulary).bincount(minlength=len(counts))
    return counts


def chi_square(counts: Tensor, probabilities: Tensor) -> tuple[float, int]:
    """Pearson's test of counts against probabilities; outcomes expected less than 5 times share one cell.

    Returns:
        the p-value, 0 if an impossible outcome was seen; and the number of cells.
    """
    assert abs(probabilities.sum().item() - 1) < 1e-9
    possible = probabilities > 0
    if counts[~possible].any():
        return 0.0, int(possible.sum())
    expected, order = (probabilities[possible] * counts.sum()).sort(descending=True)
    observed = counts[possible][order].double()
    alone = int((expected >= 5).sum())
    if 0 < expected[alone:].sum() < 5:
        alone -= 1  # the rare outcomes together are too few: the rarest of the others joins them
    if alone < len(expected):
        observed, expected = (torch.cat((v[:alone], v[alone:].sum()[None])) for v in (observed, expected))
    return float(scipy.stats.chisquare(observed.numpy(), expected.numpy()).pvalue), len(observed)
