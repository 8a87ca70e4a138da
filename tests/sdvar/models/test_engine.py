"""What makes decoding fast leaves its output alone."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounter

import sdvar
from sdvar.decoding import state as state
from sdvar.engine import tf32_allowed
from sdvar.models import tokenizer as tokenizer_module
from sdvar.models.layers import attention, linear
from tests.random_pairs import close_pair, random_pair, random_var, same_tokens
from tests.simulated_cuda import moved


def test_what_a_cache_held_before_does_not_matter(monkeypatch):
    """Caches are not cleared, on a GPU those of the decode before are used again."""
    pair = close_pair()
    first = sdvar.decode(pair, [1, 2, 3], [4, 5, 6], sdvar.Speculative(2))
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **kind: empty(*size, **kind).fill_(float("nan")))
    assert same_tokens(first, sdvar.decode(pair, [1, 2, 3], [4, 5, 6], sdvar.Speculative(2)))


def test_on_a_cpu_no_cache_is_kept():
    """The tokenizer needs the memory."""
    pair = close_pair()
    sdvar.decode(pair, [1, 2, 3], [4, 5, 6], sdvar.Baseline())
    assert pair.target._kept is None


def test_a_cache_made_in_inference_mode_serves_outside_of_it():
    pair = random_pair()
    with torch.inference_mode():
        inside = sdvar.decode(pair, [1, 2], [4, 5], sdvar.Baseline())
    assert same_tokens(inside, sdvar.decode(pair, [1, 2], [4, 5], sdvar.Baseline()))


def test_two_decodes_of_one_model_at_once_do_not_share_a_cache():
    pair = random_pair(same=True)
    state = sdvar.decoding.DecodeState(pair, torch.tensor([1]), torch.tensor([2]), sdvar.Sampling())
    assert state.stepper("draft").workspace is not state.stepper("target").workspace


def test_images_decoded_apart_are_those_decoded_together(monkeypatch):
    vae = random_pair().tokenizer
    tokens = [torch.randint(32, (5, n)) for n in vae.pyramid.tokens]
    together = vae.decode(tokens)
    monkeypatch.setattr(tokenizer_module, "DECODED_TOGETHER", 2)
    torch.testing.assert_close(vae.decode(tokens), together)


def test_a_decoder_in_low_precision_leaves_the_tokens_alone():
    pair = close_pair(dtype=torch.float32)
    before = sdvar.decode(pair, [1, 2], [4, 5], sdvar.Speculative(2))
    pair.tokenizer.set_decoder_dtype(torch.bfloat16)
    after = sdvar.decode(pair, [1, 2], [4, 5], sdvar.Speculative(2))
    assert same_tokens(before, after)
    assert after.images.dtype == torch.float32
    torch.testing.assert_close(after.images, before.images, atol=0.05, rtol=0)
    assert not torch.equal(after.images, before.images)


def test_a_tokenizer_without_its_encoder_decodes_and_says_so_when_asked_to_encode():
    vae = random_pair().tokenizer
    tokens = [torch.randint(32, (2, n)) for n in vae.pyramid.tokens]
    images = vae.decode(tokens)
    assert torch.equal(vae.drop_encoder().decode(tokens), images)
    with pytest.raises(ValueError, match="encoder was dropped"):
        vae.encode(images)


def test_noise_made_for_several_scales_at_once_is_the_same(monkeypatch):
    """As on a GPU: all scales at once, or as many as there is room for."""
    pair = close_pair()
    expected = sdvar.decode(pair, [1, 2], [4, 5], sdvar.Speculative(2))
    for room in (10**9, 2 * pair.target.codebook_size * (pair.pyramid.tokens[1] + pair.pyramid.tokens[2])):
        monkeypatch.setitem(state.NOISE_TOGETHER, "cpu", room)
        assert same_tokens(sdvar.decode(pair, [1, 2], [4, 5], sdvar.Speculative(2)), expected)


@pytest.mark.skipif(torch.bfloat16 not in linear.onednn_dtypes(), reason="no bfloat16 products by oneDNN here")
class TestBfloat16OnACPU:
    @torch.no_grad()
    def test_the_copy_of_the_weights_follows_them(self):
        layer = linear.Linear(64, 32, packed=True).bfloat16()
        x = torch.randn(5, 64).bfloat16()

        def check():
            assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
            assert layer.copy_bytes == layer.weight.nbytes

        check()
        layer.weight.mul_(2)
        check()
        layer.load_state_dict({name: -value for name, value in layer.state_dict().items()})
        check()
        copied = copy.deepcopy(layer)
        assert copied.copy_bytes == 0
        assert torch.equal(copied(x), layer(x))
        assert layer.float().copy_bytes == 0

    def test_training_does_without_it(self):
        layer = linear.Linear(64, 32, packed=True).bfloat16()
        layer(torch.randn(5, 64).bfloat16()).sum().backward()
        assert layer.copy_bytes == 0
        assert layer.weight.grad is not None

    @torch.no_grad()
    def test_logits_are_as_close_to_the_truth_as_by_the_fused_kernel(self):
        """Products in place of torch's fused attention: not less accurate than it is, over spans of several scales."""
        labels, exact = torch.tensor([1, 2, 3]), close_pair(dtype=torch.float64).target
        inputs = torch.randn(3, exact.pyramid.length - 1, exact.latent_channels, dtype=torch.float64)
        truth = exact(labels, inputs)
        model = close_pair(dtype=torch.bfloat16).target
        errors = {}
        for kernel in ("products", "flash", "auto"):
            model.set_attention(kernel)
            errors[kernel] = (model(labels, inputs.float()).double() - truth).square().mean().sqrt()
        assert errors["auto"] == errors["products"] != errors["flash"]
        assert errors["products"] < 1.2 * errors["flash"]


@pytest.mark.parametrize("kernel", ["math", "flash", "products"])
def test_a_forced_kernel_computes_the_same(kernel):
    """Spans of one scale and of several, with and without keys before them."""
    pair = close_pair(dtype=torch.float32)
    expected = sdvar.decode(pair, [1, 2], [4, 5], sdvar.Speculative(2))
    pair.target.set_attention(kernel)
    forced = sdvar.decode(pair, [1, 2], [4, 5], sdvar.Speculative(2))
    gaps = sdvar.first_differences(pair, [1, 2], [4, 5], sdvar.Sampling(), forced.tokens, expected.tokens)
    assert (gaps[~gaps.isnan()] < sdvar.NEAR_TIE).all()


def test_a_pass_by_one_call_a_scale_is_the_masked_pass():
    """Decoding takes a call for each scale, training one call with a mask."""
    pyramid = sdvar.ScalePyramid((1, 2, 3, 4))
    q = torch.randn(2, 3, 25, 8, dtype=torch.float64)
    k, v = torch.randn(2, 2, 3, 29, 8, dtype=torch.float64)  # scales 1 to 3; scale 0 is not visible
    visibility = attention.block_causal(pyramid, 2, 4, 1, torch.device("cpu"))
    masked = attention.attend(q.requires_grad_(), k, v, visibility, 0.5)
    with torch.no_grad():
        by_scale = attention.attend(q, k, v, visibility, 0.5)
    torch.testing.assert_close(by_scale, masked.detach())


def test_a_kernel_that_the_machine_lacks(caplog):
    model = close_pair(dtype=torch.float32).target
    with pytest.raises(ValueError, match=r"efficient does not run on cpu.*expected one of auto, math, flash"):
        model.set_attention("efficient")
    with pytest.raises(ValueError, match="attention: expected one of auto, math"):
        model.set_attention("fast")
    attention._log_once.cache_clear()
    with caplog.at_level("INFO", logger="sdvar.attention"):
        model(torch.tensor([1]), torch.zeros(1, 29, 8))
    assert "attention by flash_attention on cpu, torch.float32" in caplog.text


def test_linear_is_the_linear_of_torch():
    """Whatever library computes it; with gradients, autocast and other dtypes it is torch's own."""
    layer, x = linear.Linear(24, 40), torch.randn(2, 5, 24)
    expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(layer(x.transpose(0, 1)), expected.transpose(0, 1))
        assert layer(x[:0]).shape == (0, 5, 40)
        assert layer.double()(x.double()).dtype == torch.float64
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer.float()(x).dtype == torch.bfloat16
    layer(x).sum().backward()
    assert layer.weight.grad is not None


def test_an_engine_sets_both_models_and_the_decoder():
    pair = sdvar.Engine(attention="math", graphs=True, tokenizer_dtype="bfloat16").apply(
        close_pair(dtype=torch.float32)
    )
    assert {block.attn.kernel for model in (pair.draft, pair.target) for block in model.blocks} == {"math"}
    assert not pair.target.graphs  # a CPU has none
    assert pair.tokenizer.decoder.conv_out.weight.dtype == torch.bfloat16
    assert pair.tokenizer.quantize.embedding.weight.dtype == torch.float32


def test_the_decoder_runs_in_float16_on_a_gpu_unless_told_otherwise(cuda):
    for device, loaded, asked, expected in (
        ("cuda:1", torch.float32, None, torch.float16), ("cuda:1", torch.float32, "float32", torch.float32),
        ("cuda:1", torch.float64, None, torch.float64), ("cuda:1", torch.bfloat16, None, torch.bfloat16),
        ("cpu", torch.float32, None, torch.float32),
    ):  # fmt: skip
        pair = close_pair(dtype=torch.float32)
        pair.tokenizer.set_decoder_dtype(loaded)
        sdvar.Engine(tokenizer_dtype=asked).apply(moved(pair, device))
        assert pair.tokenizer.decoder_dtype == expected
        assert pair.tokenizer.quantize.embedding.weight.dtype == torch.float32


def test_float16_moves_few_pixels_by_one_grey_level():
    """Of the bundled pair, whose weights are float16: they are moved off its grid, so that their rounding counts."""

    def levels(tokenizer):
        return tokenizer.decode(tokens).float().add(1).mul(127.5).round()

    pair = sdvar.load_pair("tiny")
    tokens = sdvar.decode(pair, list(range(10)), list(range(10)), sdvar.Baseline(), images=False).tokens
    generator = torch.Generator().manual_seed(0)
    for weight in pair.tokenizer.decoder.parameters():
        weight.data.mul_(1 + (torch.rand(weight.shape, generator=generator) - 0.5) * 2**-9)
    expected = levels(pair.tokenizer)
    moved_by = {
        dtype: (levels(pair.tokenizer.set_decoder_dtype(dtype)) - expected).abs()
        for dtype in (torch.float16, torch.bfloat16)
    }
    assert moved_by[torch.float16].max() == 1
    assert 0.01 < (moved_by[torch.float16] > 0).double().mean() < 0.05
    assert (moved_by[torch.bfloat16] > 0).double().mean() > 0.1


def test_numerics_hold_within_a_block_and_are_put_back():
    before, cudnn = torch.get_num_threads(), torch.backends.cudnn
    with tf32_allowed(True):
        with pytest.raises(OSError), sdvar.Engine(threads=before + 1).numerics():
            inside = torch.get_num_threads(), cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
            raise OSError
        assert inside == (before + 1, False, False)
        assert (torch.get_num_threads(), cudnn.allow_tf32) == (before, True)
        with sdvar.Engine().numerics():
            assert torch.get_num_threads() == before


@pytest.mark.parametrize("wrong", [{"attention": "fast"}, {"tokenizer_dtype": "int8"}])
def test_an_engine_that_is_none(wrong):
    with pytest.raises(
        ValueError, match=f"{next(iter(wrong))}: expected one of .*, got '{next(iter(wrong.values()))}'"
    ):
        sdvar.Engine(**wrong)


def test_a_compiled_training_step_is_compiled_once():
    """One shape: what is compiled for the first step serves all."""
    torch._dynamo.reset()
    counter, model = CompileCounter(), random_var((1, 2, 3), seed=2).train()
    model.drop_label = 0.0
    model.compile(backend=counter)
    labels, inputs = torch.tensor([1, 2]), torch.randn(2, model.pyramid.length - 1, model.latent_channels)
    counts = []
    for _ in range(3):
        model(labels, inputs).sum().backward()
        counts.append(counter.frame_count)
    assert counts[0] > 0 and counts == [counts[0]] * 3


@pytest.mark.parametrize("given, error", [
    ({"threads": "two"}, "threads: expected an int >= 1, got 'two'"),
    ({"threads": 1.5}, "threads: expected an int >= 1, got 1.5"),
    ({"graphs": "yes"}, "graphs: expected True or False, got 'yes'"),
    ({"tf32": 1}, "tf32: expected True or False, got 1"),
])  # fmt: skip
def test_an_engine_names_what_it_cannot_be(given, error):
    with pytest.raises(TypeError, match=f"^{error}$"):
        sdvar.Engine(**given)


@pytest.mark.parametrize("change, error", [
    ({"pair": "tiny"}, "pair: expected a sdvar.ModelPair such as"),
    ({"images": "no"}, "images: expected True or False, got 'no'"),
])  # fmt: skip
def test_a_decode_names_what_is_no_pair_and_no_flag(change, error):
    with pytest.raises(TypeError, match=error):
        sdvar.decode(**{"pair": random_pair(), "labels": [1], "seeds": [1], "strategy": sdvar.Baseline(), **change})
