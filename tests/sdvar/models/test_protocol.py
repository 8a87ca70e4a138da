"""A model other than VAR decodes under every strategy, with no line about it outside of this file."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import sdvar
from sdvar.decoding import DecodeState
from sdvar.models.kv_cache import CacheWindow, KVCache
from sdvar.models.running.base import NextScaleBase
from sdvar.selftest.cache_error import cache_error
from tests.random_pairs import same_tokens

PYRAMID = sdvar.ScalePyramid((1, 2, 2, 3))
CODEBOOK, LATENT, DTYPE = 16, 8, torch.float64


class Biases(NamedTuple):
    """Logits of each position that depend on the class alone: (n, L, V)."""

    table: Tensor


class MeanOfInputs(NextScaleBase):
    """Logits of a scale from the mean of all inputs up to it; the inputs are what it caches."""

    num_classes, codebook_size, latent_channels = 3, CODEBOOK, LATENT
    pyramid, device, dtype, logits_dtype = PYRAMID, torch.device("cpu"), DTYPE, DTYPE

    def __init__(self, noise: float) -> None:
        torch.manual_seed(0)
        self.table, self.weights = torch.randn(4, PYRAMID.length, CODEBOOK, dtype=DTYPE), torch.randn(LATENT, CODEBOOK)
        self.weights = 9 * self.weights.double() + noise * torch.randn(LATENT, CODEBOOK)

    def condition(self, labels: Tensor) -> Biases:
        return Biases(self.table[labels])

    def new_cache(self, rows: int, scales: int = len(PYRAMID)) -> KVCache:
        return KVCache(1, rows, 1, PYRAMID.offsets[scales], LATENT, DTYPE, self.device)

    def forward_span(self, conditioning, inputs, first, last, cache=None, rows=None, visible_from=0, logits_from=None):
        x = torch.nn.functional.pad(inputs, (0, 0, PYRAMID.span_tokens(first, last) - inputs.shape[1], 0))[:, None]
        seen, _ = cache.layer(0).update(
            x, x, CacheWindow(rows, *(PYRAMID.offsets[k] for k in (visible_from, first, last)))
        )
        scales = range(first if logits_from is None else logits_from, last)
        means = [seen[:, 0, : PYRAMID.span_tokens(visible_from, k + 1)].mean(1, keepdim=True) for k in scales]
        biases = PYRAMID.split(conditioning.table)
        return torch.cat([biases[k] + mean @ self.weights for k, mean in zip(scales, means)], dim=1)


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(1)
    tokenizer = sdvar.VQVAE(PYRAMID, CODEBOOK, LATENT, base_channels=32, channel_multipliers=(1, 1)).double()
    return sdvar.ModelPair(MeanOfInputs(noise=2.0), MeanOfInputs(noise=0.0), tokenizer)


BATCH = [0, 1, 2, 3, 0], [5, 6, 7, 8, 9]


@pytest.mark.parametrize("strategy", [
    sdvar.Speculative(2), sdvar.Speculative(3, redraft="target"), sdvar.Handoff(0),
], ids=repr)  # fmt: skip
@pytest.mark.parametrize("cfg", [0.0, 1.5])
def test_exact_strategies_give_the_tokens_of_the_baseline(pair, strategy, cfg):
    sampling = sdvar.Sampling(cfg=cfg, top_k=12)
    result = sdvar.decode(pair, *BATCH, strategy, sampling)
    assert strategy.exact and same_tokens(result, sdvar.decode(pair, *BATCH, sdvar.Baseline(), sampling))
    assert result.images.shape == (5, 3, 6, 6)


def test_some_scales_are_accepted_and_some_rejected(pair):
    """Else the test above would not exercise the cache."""
    stats = sdvar.decode(pair, *BATCH, sdvar.Speculative(2)).stats
    assert 0 < stats.accepted_scales.sum() < stats.drafted_scales.sum()
    draft, target = (sdvar.decode(pair, *BATCH, sdvar.Baseline(name)) for name in ("draft", "target"))
    assert not same_tokens(draft, target)


@pytest.mark.parametrize("strategy", [sdvar.Speculative(2, sdvar.Rejection()), sdvar.Handoff(2, "target")], ids=repr)
def test_caches_follow_from_what_is_committed(pair, strategy):
    state = DecodeState(pair, *map(torch.tensor, BATCH), sdvar.Sampling())
    with torch.no_grad():
        strategy.run(state)
    assert cache_error(state) < 1e-12


def test_the_engine_knows_that_it_has_one_kernel(pair):
    assert sdvar.Engine().apply(pair) is pair
    with pytest.raises(ValueError, match="attention: expected auto with MeanOfInputs, got 'math'"):
        sdvar.Engine(attention="math").apply(pair)


def test_what_lacks_a_member_is_no_model(pair):
    with pytest.raises(TypeError, match=r"draft: expected a sdvar\.NextScaleModel, got NextScaleBase"):
        sdvar.ModelPair(NextScaleBase(), pair.target, pair.tokenizer)
