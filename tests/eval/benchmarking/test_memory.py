"""Whether a batch fits."""

import pytest
import torch

import sdvar
from eval.benchmarking.memory import (
    check_batch,
    decode_bytes,
    free_bytes,
    is_out_of_memory,
    largest_batch,
    naming_the_batch,
)


def test_a_batch_that_does_not_fit_is_named_with_one_that_does():
    check_batch(4, lambda batch: 100 * batch, 400)
    with pytest.raises(ValueError, match=r"batch_size: 5 needs about 500 bytes .*, 400 are free; 4 fits"):
        check_batch(5, lambda batch: 100 * batch, 400)
    with pytest.raises(ValueError, match="not even 1 fits"):
        check_batch(1, lambda batch: 100 * batch, 99)


@pytest.mark.parametrize(("free", "batch"), [(99, 0), (100, 1), (399, 2), (400, 4), (10**9, 256)])
def test_the_largest_batch_is_a_power_of_two(free, batch):
    assert largest_batch(lambda batch: 100 * batch, free) == batch


def test_the_estimate_contains_the_caches_of_the_models_that_run():
    pyramid = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    with torch.device("meta"):
        models = [sdvar.VAR(pyramid, depth=depth, width=64 * depth, heads=depth) for depth in (16, 30)]
        pair = sdvar.ModelPair(*models, sdvar.VQVAE(pyramid))
    caches = [depth * 2 * 2 * 64 * 680 * 64 * depth * 4 for depth in (16, 30)]
    plain, draft, both = (
        decode_bytes(pair, strategy, 64)
        for strategy in (sdvar.Baseline(), sdvar.Baseline("draft"), sdvar.Speculative())
    )
    assert draft > caches[0]
    assert plain > caches[1]
    assert both > sum(caches)
    assert decode_bytes(pair, sdvar.Baseline(), 1) < plain / 32
    assert decode_bytes(pair, sdvar.Baseline(), 1, images=False) < decode_bytes(pair, sdvar.Baseline(), 1)


def test_free_memory_is_less_than_an_impossible_amount():
    assert 2**20 < free_bytes(torch.device("cpu")) < 2**50


def test_running_out_of_memory_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_running_out_of_memory_names_the_batch_and_other_errors_pass():
    named = pytest.raises(ValueError, match=r"batch_size: 8 ran out of memory.* 800 bytes .*; try 4")
    with named, naming_the_batch(8, lambda batch: 100 * batch):
        raise MemoryError
    with pytest.raises(RuntimeError, match="shapes"), naming_the_batch(8, lambda batch: 0):
        raise RuntimeError("shapes do not match")
