"""The kernels of a block under Triton's interpreter; run by test_pick.py, in a process of its own."""

import pytest
import torch

import sdvar
from sdvar.kernels import blocks, trial
from sdvar.models.kv_cache import CacheWindow, LayerCache
from tests.random_pairs import close_pair, same_tokens

CPU, PROOF = torch.device("cpu"), pytest.mark.proof


@pytest.fixture(autouse=True)
def many_tokens_together(monkeypatch):
    """The interpreter takes as long for one as for sixteen."""
    monkeypatch.setattr(blocks, "TOGETHER", 16)


@pytest.mark.parametrize(("dtype", "width", "heads", "rows", "tokens"), [
    (torch.bfloat16, 48, 3, 2, 2),
    *(pytest.param(*case, marks=PROOF) for case in (
        (torch.float32, 48, 3, 2, 2), (torch.float16, 48, 3, 2, 2), (torch.float32, 20, 1, 3, 1),
        (torch.bfloat16, 256, 4, 3, 11), (torch.float32, 1920, 30, 1, 2),
    )),
])  # fmt: skip
def test_kernels_give_what_torchs_operations_give(dtype, width, heads, rows, tokens):
    assert trial.problems(blocks, CPU, dtype, width, heads, rows, tokens) == []


def test_a_wrong_kernel_is_found(monkeypatch):
    monkeypatch.setattr(blocks, "add", lambda x, branch, gain: None)
    (problem,) = trial.problems(blocks, CPU, torch.float32, 16, 1)
    assert problem.startswith("sum: off by")


def results(x, branch, modulation, qkv):
    """Of all kernels, a row per token."""
    (n, tokens, width), heads = x.shape, 2
    gain, scale, shift = modulation.unbind(1)
    x, cache = x.clone(), LayerCache(*(torch.zeros(n, heads, tokens, width // heads) for _ in range(2)))
    bias = torch.linspace(-1, 1, width)
    normed = blocks.added(x, branch, gain, scale, shift, torch.float32)[: n * tokens]
    q = blocks.heads(qkv, (bias, bias, bias), torch.ones(1, heads, 1, 1), n, cache, CacheWindow(None, 0, 0, tokens))
    by_token = [part.transpose(1, 2).flatten(0, 1).flatten(1) for part in (q, *cache)]
    return torch.cat((x.flatten(0, 1), normed, *by_token), dim=1)


def test_a_tokens_bits_do_not_depend_on_what_shares_the_call(monkeypatch):
    n, tokens, width = 3, 2, 40
    generator = torch.Generator().manual_seed(0)
    x, branch, qkv = (torch.randn(n, tokens, size, generator=generator) for size in (width, width, 3 * width))
    modulation = torch.randn(n, 3, 1, width, generator=generator)
    together = results(x, branch.flatten(0, 1), modulation, qkv.flatten(0, 1)).view(n, tokens, -1)
    monkeypatch.setattr(blocks, "TOGETHER", 2)
    alone = results(x[1:2, 1:], branch[1, 1:], modulation[1:2], qkv[1, 1:])
    assert torch.equal(alone[0], together[1, 1])


@PROOF  # a simulated device shows it in less time
@pytest.mark.parametrize(("dtype", "patch_nums"), [(torch.bfloat16, (1, 2)), (torch.float32, (1, 2, 2))])
def test_coupled_is_the_baseline_with_kernels(monkeypatch, dtype, patch_nums):
    pair = close_pair(patch_nums, torch.float32)
    for model in (pair.draft, pair.target):
        model.blocks.to(dtype)
    calls = []
    monkeypatch.setattr("sdvar.models.transformer.fused_blocks", lambda *of: calls.append(of) or blocks)
    sampling = sdvar.Sampling(cfg=2.0, top_k=12)
    expected = sdvar.decode(pair, [1, 10], [3, 5], sdvar.Baseline(), sampling, images=False)
    ours = sdvar.decode(pair, [1, 10], [3, 5], sdvar.Speculative(len(patch_nums) - 1), sampling, images=False)
    assert same_tokens(ours, expected) and calls
