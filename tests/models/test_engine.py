"""What makes decoding fast leaves its output alone."""

import torch

import sdvar
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
