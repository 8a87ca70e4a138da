import math

import pytest
import torch

import sdvar
from sdvar import Sampling
from sdvar.sampling import filtered_probabilities, pick, token_mass


def test_guidance_grows_linearly_from_zero():
    sampling = Sampling(cfg=1.5)
    assert [sampling.guidance(k, 4) for k in range(4)] == [0, 0.5, 1.0, 1.5]
    assert sampling.guidance(0, 1) == 0


def test_guidance_by_scale():
    sampling = Sampling(cfg=[9.0, 3.0, 0.0, 1.5])
    assert [sampling.guidance(k, 4) for k in range(4)] == [0, 1.0, 0, 1.5]
    assert sampling.guided_scales(4) == 4
    until = Sampling(cfg=1.5, cfg_until=2)
    assert [until.guidance(k, 4) for k in range(4)] == [0, 0.5, 0, 0]
    guided = [Sampling(cfg, cfg_until=n).guided_scales(4) for cfg, n in ((1.5, None), (1.5, 2), (1.5, 1), (0, None))]
    assert guided == [4, 2, 0, 0]
    for wrong, error in (
        ({"cfg": [1.5, 1.5]}, "cfg: expected one number or 4, one per scale, got 2"),
        ({"cfg_until": 5}, "cfg_until: expected 1 to 4, the number of scales, got 5"),
    ):
        with pytest.raises(ValueError, match=error):
            Sampling(**wrong).check_scales(4)


def test_top_k_keeps_ties():
    kept = filtered_probabilities(torch.tensor([3.0, 1.0, 1.0, 0.0]), top_k=2) > 0
    assert kept.tolist() == [True, True, True, False]


def test_off_values():
    logits = torch.randn(5, 8)
    for top_k, top_p in ((0, 0.0), (8, 0.0), (99, 1.0)):
        torch.testing.assert_close(filtered_probabilities(logits, top_k, top_p), logits.softmax(-1))


def test_pick_never_takes_a_filtered_token():
    logits = torch.tensor([[0.0, -math.inf]])
    assert pick(logits, torch.tensor([[-50.0, 50.0]])).item() == 0


def test_a_temperature_a_scale():
    sampling = Sampling(temperature=[2.0, 1.0])
    assert [sampling.temperature_at(k) for k in range(2)] == [2.0, 1.0]
    with pytest.raises(ValueError, match="one number or 3"):
        sampling.check_scales(3)


def test_a_scales_temperature_changes_that_scale_first(pair):
    def tokens(temperature):
        return sdvar.decode(pair, [1, 2], [3, 4], sdvar.Baseline(), Sampling(temperature=temperature), False).tokens

    plain = tokens(1.0)
    assert all(torch.equal(a, b) for a, b in zip(plain, tokens([1.0] * 4)))
    for scale in range(1, 4):  # scale 0 is one token
        hot = tokens([9.0 if k == scale else 1.0 for k in range(4)])
        assert [torch.equal(a, b) for a, b in zip(plain, hot)][: scale + 1] == [True] * scale + [False]


@pytest.mark.parametrize("arguments, error, word", [
    ({"cfg": [1.0, math.inf]}, ValueError, "cfg"), ({"cfg": [1.0, None]}, TypeError, "cfg"),
    ({"cfg_until": 0}, ValueError, "cfg_until"), ({"cfg_until": 2.0}, TypeError, "cfg_until"),
    ({"cfg": "1"}, TypeError, "cfg"), ({"cfg": math.nan}, ValueError, "cfg"), ({"top_k": -1}, ValueError, "top_k"),
    ({"top_k": 1.5}, TypeError, "top_k"), ({"top_p": 1.1}, ValueError, "top_p"), ({"top_p": -0.1}, ValueError, "top_p"),
    ({"temperature": 0}, ValueError, "temperature"), ({"temperature": [1.0, -1.0]}, ValueError, "temperature"),
])  # fmt: skip
def test_bad_arguments(arguments, error, word):
    with pytest.raises(error, match=word):
        Sampling(**arguments)


@pytest.mark.parametrize("top_k, top_p, error", [(-1, 0.0, ValueError), (1.5, 0.0, TypeError), (0, 1.1, ValueError)])
def test_bad_filters(top_k, top_p, error):
    with pytest.raises(error, match="top_"):
        filtered_probabilities(torch.zeros(3), top_k, top_p)
    with pytest.raises(TypeError, match="logits"):
        filtered_probabilities(torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("ties", [False, True])
def test_top_k_and_top_p_together_are_one_after_the_other(ties):
    """The short cut that ranks the k best alone gives what ranking all of them gives, with ties at the k-th or not."""
    logits = torch.randn(200, 64, dtype=torch.float64) * 3
    if ties:
        logits = logits.round()
    both = filtered_probabilities(logits, 10, 0.8)
    first = filtered_probabilities(logits, 10).log()
    torch.testing.assert_close(both, filtered_probabilities(first, 0, 0.8))


@pytest.mark.parametrize("top_k", [0, 10])
@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.8, 0.9999999])
def test_top_p_by_its_definition(top_k, top_p):
    """A token stays if it and all that are at most as likely have more than 1 - top_p; the best ones always stay."""
    logits = torch.cat((torch.randn(100, 64), torch.randn(100, 64).round())).float() * 3
    sampling = Sampling(top_k=top_k, top_p=top_p)
    p = Sampling(top_k=top_k).filtered(logits).double().softmax(-1)
    at_most = torch.where(logits[:, None] <= logits[:, :, None], p[:, None], 0).sum(-1)
    clear = (at_most - (1 - top_p)).abs() > 1e-5
    expected = (p > 0) & ((at_most > 1 - top_p) | (logits == logits.amax(-1, keepdim=True)))
    kept = sampling.filtered(logits) > -math.inf
    assert (kept == expected)[clear].all()
    assert clear.double().mean() > 0.9 or top_p == 0.9999999
    order = torch.randperm(64)  # the order of the tokens, and of the sums with it, changes nothing
    assert torch.equal(sampling.filtered(logits[:, order]) > -math.inf, kept[:, order])


def test_mass_of_a_token():
    x = torch.cat((-torch.rand(10_000) * 13, torch.tensor([0.0])))
    torch.testing.assert_close(token_mass(x).double() / 2**40, x.double().exp(), rtol=2e-6, atol=0)
    assert token_mass(torch.tensor([0.0, -1e9, -math.inf])).tolist() == [2**40, 0, 0]
