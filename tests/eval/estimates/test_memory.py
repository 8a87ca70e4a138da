"""Whether a batch fits."""

import pytest
import torch

import sdvar
from eval.benchmarking import measuring
from eval.benchmarking.measuring import strategy_runner
from eval.estimates import memory
from eval.estimates.memory import check_batch, decode_bytes, free_bytes, largest_batch, naming_the_batch
from lightning_modules.arms.arm import Arm
from sdvar.models.running.cuda_graphs import graph_bytes
from sdvar.system.memory import is_out_of_memory
from tests.random_pairs import close_pair
from tests.simulated_cuda import moved


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
    sdvar.Engine(prefix_bytes=0).apply(pair)
    caches = [depth * 2 * 2 * 64 * 680 * 64 * depth * 4 for depth in (16, 30)]
    plain, draft, both = (
        decode_bytes(pair, strategy, 64)
        for strategy in (sdvar.Baseline(), sdvar.Baseline("draft"), sdvar.Speculative())
    )
    assert draft > caches[0]
    assert plain > caches[1]
    assert both > sum(caches)
    assert decode_bytes(pair, sdvar.Baseline(), 1) < plain / 32
    pair.draft.guidance_inside = sdvar.Sampling()
    of_draft = draft - decode_bytes(pair, sdvar.Baseline("draft"), 64)
    assert of_draft > caches[0] / 2 and decode_bytes(pair, sdvar.Baseline(), 64) == plain
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


def test_the_estimate_knows_the_memory_of_graphs():
    pyramid = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    with torch.device("meta"):
        models = [sdvar.VAR(pyramid, depth=depth, width=64 * depth, heads=depth) for depth in (16, 30)]
        pair = sdvar.ModelPair(*models, sdvar.VQVAE(pyramid))
    without = decode_bytes(pair, sdvar.Speculative(), 8)
    for model in models:
        model.graphs = True
    graphs = sum(graph_bytes(model, 8, guided=True) for model in models)
    assert 0 < graphs < 2**30
    assert decode_bytes(pair, sdvar.Speculative(), 8) == without + graphs


STRATEGIES = [
    (sdvar.Baseline(), 0, 0), (sdvar.Handoff(2), 0, 0), (sdvar.Speculative(2), 0, 0), (sdvar.Speculative(), 0, 3),
    (sdvar.Speculative(2, sdvar.Top1(0.1)), 0, 3), (sdvar.Speculative(2, sdvar.KL(1.0)), 1, 3),
]  # fmt: skip


@pytest.mark.parametrize("strategy, kept, made", STRATEGIES, ids=repr)
def test_where_the_kernel_picks_only_what_a_rule_reads_is_made(strategy, kept, made, monkeypatch):
    """Neither noise nor guided logits are, of 30 positions with 32 entries; the widest scale has 16 positions."""
    pair = close_pair(dtype=torch.float32)
    whole, widest = 5 * 30 * 32 * 4, 5 * 16 * 32 * memory.PICK_BYTES
    assert memory._sampling_bytes(pair, strategy, 5) == (0 if strategy == sdvar.Baseline() else whole, widest)
    eager = decode_bytes(pair, strategy, 5, images=False)
    monkeypatch.setattr(memory, "fused_pick", lambda *of_logits: print)
    expected = kept * whole, made * whole + (widest if made else 0)
    assert memory._sampling_bytes(pair, strategy, 5) == expected
    if not made:
        assert decode_bytes(pair, strategy, 5, images=False) < eager


def test_nothing_is_captured_in_runs_that_are_timed(cuda):
    pair = sdvar.Engine(graphs=True).apply(moved(close_pair((1, 2, 3)), "cuda:0"))
    runner = strategy_runner(
        Arm("ours", sdvar.Speculative(2)), sdvar.Speculative(2), pair, sdvar.Sampling(), images=False
    )
    counts, timed = [], measuring._timed

    def noted(*arguments):
        before = cuda.count("capture")
        result = timed(*arguments)
        counts.append(cuda.count("capture") - before)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "_timed", noted)
        patch.setattr(measuring, "_launches", lambda *arguments: 0)
        measured = measuring.measure([runner], 2, pair.num_classes, pair.device, warmup=1, repeats=3)["ours"]
    assert counts == [0] * 6
    assert measured.capture_seconds > 0


def test_the_estimate_contains_the_class_prefixes_that_are_still_to_come():
    pair = close_pair()
    every = 11 * pair.target.cost().class_prefix_bytes()  # ten classes and the null class

    def needed(limit):
        sdvar.Engine(prefix_bytes=limit).apply(pair)
        return decode_bytes(pair, sdvar.Baseline(), 2)

    assert needed(10**9) - needed(0) == every
    assert needed(100) - needed(0) == 100
    pair.target.prefixes.most_bytes = 10**9
    pair.target.prefixes.ready(range(11))
    assert decode_bytes(pair, sdvar.Baseline(), 2) == needed(0)
