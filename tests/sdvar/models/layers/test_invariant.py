"""The bits of an image do not depend on the batch, its order, or the scales that share a pass."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sdvar
from sdvar.models.layers import attention
from sdvar.models.layers.invariant import RowBlocks
from sdvar.models.layers.linear import Linear, product
from tests.random_pairs import close_pair

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def random(*shape, dtype, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


class TestRowBlocks:
    """Cut by a made-up kernel that adds in another order for some sizes."""

    @staticmethod
    def blocks(other_order, tried=None, rows=64):
        def call(x):
            if tried is not None:
                tried.append(len(x))
            return x.sum(1, keepdim=True) * (1 + 1e-6 * other_order(len(x)))

        numbers = torch.rand(rows, 50, generator=torch.Generator().manual_seed(0))
        return RowBlocks(lambda: call, numbers, blocks=(8, 16, 32)), call

    @pytest.mark.parametrize(
        "other_order, block",
        [(lambda n: False, 8), (lambda n: n < 3, 8), (lambda n: n < 10, 16), (lambda n: n < 20, 32)],
        ids=["one kernel", "one for two rows", "one for nine", "one for nineteen"],
    )
    def test_the_smallest_block_that_agrees_with_larger_calls_is_taken(self, other_order, block):
        assert self.blocks(other_order)[0].block == block

    @given(st.integers(1, 700))
    @settings(max_examples=30, deadline=None)
    def test_calls_cover_the_rows_and_agree_with_blocks(self, rows):
        blocks, _ = self.blocks(lambda n: 100 < n < 300)
        end = 0
        for start, size in blocks.calls(rows):
            assert start == end and size % blocks.block == 0 and not 100 < size < 300
            end = start + size
        assert rows <= end < rows + blocks.block

    def test_a_kernel_that_changes_everywhere_is_called_block_by_block(self):
        blocks, _ = self.blocks(lambda n: n != 32)
        assert blocks.block == 32 and blocks.calls(100) == ((0, 32), (32, 32), (64, 32), (96, 32))

    def test_a_size_is_tried_once(self):
        tried = []
        blocks, _ = self.blocks(lambda n: False, tried)
        blocks.calls(500)
        del tried[:]
        assert blocks.calls(500) == ((0, 504),) and not tried


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 90), st.sampled_from([(32, 48), (144, 16), (64, 200)]), st.booleans(), st.randoms())
@settings(max_examples=25, deadline=None)
def test_a_row_of_a_product_does_not_depend_on_the_others(dtype, rows, shape, gelu, chance):
    inputs, outputs = shape
    x = random(rows, inputs, dtype=dtype)
    weight, bias = random(outputs, inputs, dtype=dtype, seed=1), random(outputs, dtype=dtype, seed=2)
    alone = torch.cat([product(row[None], weight, bias, gelu) for row in x])
    order = chance.sample(range(rows), rows)
    assert torch.equal(product(x[order], weight, bias, gelu), alone[order])


def test_a_product_is_that_of_torch():
    layer = Linear(40, 24).double()
    x = random(3, 7, 40, dtype=torch.float64)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    packed = Linear(40, 24, packed=True).bfloat16()
    torch.testing.assert_close(packed(x.bfloat16()), torch.nn.Linear.forward(packed, x.bfloat16()))
    assert layer(x[:0]).shape == (0, 7, 24)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", ["auto", "math", "products"])
@pytest.mark.parametrize("heads", [1, 2])
def test_attention_of_an_image_and_a_scale(kernel, dtype, heads, threads):
    pyramid = sdvar.ScalePyramid((1, 2, 3, 5, 8))
    q, k, v = random(3, 5, heads, pyramid.length, 32, dtype=dtype)

    def attend(images, first, last):
        span = pyramid.span(first, last)
        visibility = attention.block_causal(pyramid, first, last, 0, q.device)
        keys = [x[images, :, : pyramid.offsets[last]] for x in (k, v)]
        return attention.attend(q[images][:, :, span], *keys, visibility, 0.3, kernel)

    alone = torch.cat([torch.cat([attend([i], s, s + 1) for s in range(5)], dim=2) for i in range(5)])
    assert torch.equal(attend([0, 1, 2, 3, 4], 0, 5), alone)
    assert torch.equal(attend([3, 1], 1, 4), alone[[3, 1]][:, :, pyramid.span(1, 4)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_of_an_image_and_a_scale(dtype, threads):
    """Whatever the batch, and however the scales are cut into passes: through the cache or in one pass."""
    model = close_pair((1, 2, 3, 4, 6), dtype=dtype).target
    labels, scales = torch.tensor([1, 2, 3, 0, 2, 1, 3]), len(model.pyramid)
    inputs = random(7, model.pyramid.length - 1, model.latent_channels, dtype=model.logits_dtype)

    def logits(images, *cuts):
        rows, parts = torch.tensor(images), []
        conditioning, cache = model.condition(labels[rows]), model.new_cache(len(images))
        for first, last in zip((0, *cuts), (*cuts, scales)):
            span = model.pyramid.span(max(first, 1), max(last, 1))
            of_span = inputs[rows, span.start - 1 : span.stop - 1]
            parts.append(model.forward_span(conditioning, of_span, first, last, cache))
        return torch.cat(parts, dim=1)

    together = logits(range(7))
    assert torch.equal(together, logits(range(7), 1, 2, 3, 4))
    assert torch.equal(together, logits(range(7), 2, 4))
    for i in range(7):
        assert torch.equal(together[i : i + 1], logits([i], 1, 3))
    assert torch.equal(together[[5, 2]], logits([5, 2], 4))


@pytest.mark.parametrize("dtype", DTYPES)
def test_f_hat_and_the_next_input_of_an_image(dtype, threads):
    quantizer = close_pair((1, 2, 3, 4, 6), dtype=dtype).tokenizer.quantize
    f_hat = random(9, quantizer.channels, quantizer.side, quantizer.side, dtype=dtype)
    for scale, tokens in enumerate(quantizer.pyramid.tokens):
        ids = torch.arange(9 * tokens).view(9, tokens) % quantizer.embedding.num_embeddings
        added = quantizer.contribution(ids, scale)
        assert torch.equal(added, torch.cat([quantizer.contribution(row[None], scale) for row in ids]))
        summed = f_hat + added
        if scale + 1 < len(quantizer.pyramid):
            together = quantizer.next_input(summed, scale + 1)
            assert torch.equal(together, torch.cat([quantizer.next_input(one[None], scale + 1) for one in summed]))


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 12), st.integers(0, 40), st.sampled_from([0.0, 0.6, 0.95]))
@settings(max_examples=20, deadline=None)
def test_filters_of_a_position(dtype, rows, top_k, top_p):
    sampling = sdvar.Sampling(top_k=top_k, top_p=top_p)
    logits = random(rows, 3, 40, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    logits = logits.to(dtype).to(logits.dtype)  # with ties
    alone = torch.stack([torch.stack([sampling.filtered(position) for position in row]) for row in logits])
    assert torch.equal(sampling.filtered(logits), alone)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.one_in(3)
def test_pixels_of_an_image(dtype, threads):
    tokenizer = sdvar.load_pair("tiny").tokenizer.to(dtype)
    f_hats = random(19, tokenizer.latent_channels, 8, 8, dtype=dtype)
    alone = torch.cat([tokenizer.decode_f_hat(one[None]) for one in f_hats])
    for images in (19, 7, 2):
        assert torch.equal(tokenizer.decode_f_hat(f_hats[:images]), alone[:images])


SAMPLING = sdvar.Sampling(1.5, top_k=60)
STRATEGIES = [*map(sdvar.Speculative, (1, 2, 3, 5)), sdvar.Speculative(sdvar.Spans((3, 1, 1, 1))),
              sdvar.Speculative(5, redraft="target")]  # fmt: skip


def decoded(dtype, strategy, images, batch):
    """Tokens and pixels of so many images of the bundled pair, in batches of a size."""
    pair = sdvar.load_pair("tiny", dtype=dtype)
    labels, seeds = torch.arange(images) % 10, torch.arange(images) + 7000
    parts = zip(labels.split(batch), seeds.split(batch))
    results = [sdvar.decode(pair, *part, strategy, SAMPLING) for part in parts]
    tokens = torch.cat([torch.cat(result.tokens, dim=1) for result in results])
    return tokens, torch.cat([result.images for result in results])


@pytest.mark.parametrize("dtype, images", [(torch.float32, 4), (torch.bfloat16, 2)])  # 16 bits are slow on old CPUs
def test_coupled_is_the_baseline_in_every_batch(dtype, images):
    """Tokens and pixels on the bundled pair; `make proof` does it for 1,000 images."""
    tokens, pixels = decoded(dtype, sdvar.Baseline(), images, 1)
    for strategy in (sdvar.Baseline(), STRATEGIES[1], STRATEGIES[-1]):
        again, same_pixels = decoded(dtype, strategy, images, 3)
        assert torch.equal(again, tokens) and torch.equal(same_pixels, pixels), strategy


@functools.cache
def thousand_baselines(dtype):
    return decoded(dtype, sdvar.Baseline(), 1000, 50)


def has_float16():
    """Whether the CPU multiplies float16: elsewhere a thousand images take hours."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    return "avx512_fp16" in flags or "asimdhp" in flags


@pytest.mark.proof
@pytest.mark.parametrize("strategy", [sdvar.Baseline(), *STRATEGIES], ids=str)
@pytest.mark.parametrize("dtype", [
    torch.float32, torch.bfloat16,
    pytest.param(torch.float16, marks=pytest.mark.skipif(not has_float16(), reason="the CPU has no float16")),
], ids=str)  # fmt: skip
def test_coupled_is_the_baseline_on_a_thousand_images(dtype, strategy):
    tokens, pixels = thousand_baselines(dtype)
    again, same_pixels = decoded(dtype, strategy, 1000, 7)
    assert torch.equal(again, tokens), f"{int((again != tokens).any(1).sum())} of 1,000 images differ"
    assert torch.equal(same_pixels, pixels)
