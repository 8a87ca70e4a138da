"""What makes decoding fast leaves its output alone."""

import pytest
import torch

import sdvar
from sdvar.models import attention
from sdvar.models import tokenizer as tokenizer_module
from tests.random_pairs import close_pair, random_pair, same_tokens


def test_a_cache_is_used_again_and_its_content_does_not_matter():
    pair = close_pair()
    first = sdvar.decode(pair, [1, 2, 3], [4, 5, 6], sdvar.Speculative(2))
    kept = pair.target._spare_cache
    kept.keys.fill_(7.0)
    kept.values.fill_(-3.0)
    again = sdvar.decode(pair, [1, 2, 3], [4, 5, 6], sdvar.Speculative(2))
    assert pair.target._spare_cache is kept
    assert same_tokens(first, again)
    sdvar.decode(pair, [1], [4], sdvar.Baseline())
    assert pair.target._spare_cache.keys.shape[1] == 2  # another batch: another cache, and only that one


def test_a_cache_made_in_inference_mode_serves_outside_of_it():
    pair = random_pair()
    with torch.inference_mode():
        inside = sdvar.decode(pair, [1, 2], [4, 5], sdvar.Baseline())
    assert same_tokens(inside, sdvar.decode(pair, [1, 2], [4, 5], sdvar.Baseline()))


def test_two_decodes_of_one_model_at_once_do_not_share_a_cache():
    pair = random_pair(same=True)
    session = sdvar.decoding.Session(pair, torch.tensor([1]), torch.tensor([2]), sdvar.Sampling())
    assert session.stepper("draft").cache is not session.stepper("target").cache


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


@pytest.mark.parametrize("kernel", ["math", "flash", pytest.param("flex", marks=pytest.mark.proof)])
def test_a_forced_kernel_computes_the_same(kernel):
    """Spans of one scale and of several, with and without keys before them."""
    pair = close_pair(dtype=torch.float32)
    expected = sdvar.decode(pair, [1, 2], [4, 5], sdvar.Speculative(2))
    try:
        pair.target.set_attention(kernel)
    except ValueError as error:
        assert kernel == "flex" and "expected one of auto, math" in str(error)
        pytest.skip("no compiler for flex attention")
    forced = sdvar.decode(pair, [1, 2], [4, 5], sdvar.Speculative(2))
    gaps = sdvar.first_differences(pair, [1, 2], [4, 5], sdvar.Sampling(), forced.tokens, expected.tokens)
    assert (gaps[~gaps.isnan()] < sdvar.NEAR_TIE).all()


def test_a_pass_by_one_call_a_scale_is_the_masked_pass(monkeypatch):
    """What the flash kernel does on CUDA, where it takes no mask."""
    pyramid = sdvar.ScalePyramid((1, 2, 3, 4))
    q = torch.randn(2, 3, 25, 8, dtype=torch.float64)
    k, v = torch.randn(2, 2, 3, 29, 8, dtype=torch.float64)  # scales 1 to 3; scale 0 is not visible
    visibility = attention.block_causal(pyramid, 2, 4, 1, torch.device("cpu"))
    masked = attention.attend(q, k, v, visibility, 0.5)
    by_scale = [
        torch.nn.functional.scaled_dot_product_attention(q[:, :, a:b], k[:, :, :end], v[:, :, :end], scale=0.5)
        for a, b, end in visibility.blocks
    ]
    torch.testing.assert_close(torch.cat(by_scale, dim=2), masked)


def test_a_kernel_that_the_machine_lacks(caplog):
    model = close_pair(dtype=torch.float32).target
    with pytest.raises(ValueError, match=r"efficient does not run on cpu.*expected one of auto, math, flash"):
        model.set_attention("efficient")
    with pytest.raises(ValueError, match="attention: expected one of auto, math"):
        model.set_attention("fast")
    attention._log_once.cache_clear()
    with caplog.at_level("INFO", logger="sdvar.attention"):
        model(torch.tensor([1]), torch.zeros(1, 29, 8))
    assert "attention by flash_attention on cpu, torch.float32, masked" in caplog.text
