"""Every strategy on simulated CUDA devices decodes what it does on the CPU, with graphs and without."""

import pytest
import torch

import sdvar
from tests.random_pairs import close_pair, same_tokens
from tests.simulated_cuda import moved, on_host

BATCH = [1, 2, 3], [6, 7, 8]
STRATEGIES = [
    sdvar.Baseline(), sdvar.Baseline("draft"), sdvar.Speculative(2), sdvar.Speculative(3, redraft="target"),
    sdvar.Speculative(sdvar.Adaptive()), sdvar.Speculative(sdvar.TokenBudget(6)),
    sdvar.Speculative(sdvar.Spans((2, 1))), sdvar.Speculative(2, sdvar.Rejection()),
    sdvar.Speculative(2, sdvar.Match(0.5, "target"), verify_scales=2), sdvar.Speculative(2, sdvar.Top1(0.1)),
    sdvar.Speculative(2, sdvar.TopK(8, 0.5)), sdvar.Speculative(2, sdvar.KL(1.0)),
    sdvar.Speculative(2, sdvar.Neighbour(4, 0.2)), sdvar.Handoff(2), sdvar.Handoff(2, "target"),
    sdvar.Handoff(2, prefix="none"),
]  # fmt: skip
FILTERED, UNGUIDED = sdvar.Sampling(top_k=20, top_p=0.9), sdvar.Sampling(cfg=0.0, temperature=0.9)


@pytest.fixture(scope="module")
def pair():
    return close_pair((1, 2, 3))


def decode(pair, strategy, sampling, images=False):
    return on_host(sdvar.decode(pair, *BATCH, strategy, sampling, images))


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.one_in(5)
def test_a_decode_is_that_of_the_cpu(cuda, pair, strategy, graphs):
    sampling = FILTERED if graphs else UNGUIDED
    expected = decode(moved(pair, "cpu"), strategy, sampling)
    sdvar.Engine(graphs=graphs).apply(moved(pair, "cuda:1"))
    assert same_tokens(decode(pair, strategy, sampling), expected)
    assert cuda.contexts == {1}
    assert bool(cuda.count("replay")) == graphs


@pytest.mark.parametrize("sampling", [FILTERED, sdvar.Sampling(more_smooth=True)], ids=repr)
@pytest.mark.one_in(2)
def test_pixels_are_those_of_the_cpu(cuda, pair, sampling):
    expected = decode(moved(pair, "cpu"), sdvar.Baseline(), sampling, images=True)
    result = decode(moved(pair, "cuda:1"), sdvar.Baseline(), sampling, images=True)
    torch.testing.assert_close(result.images, expected.images)
