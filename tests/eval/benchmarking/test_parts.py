"""What a benchmark is made of: random weights, simulated acceptance, turns."""

import logging

import pytest
import torch

import sdvar
from eval.benchmarking.measuring import Runner, measure
from eval.benchmarking.models import random_pair
from eval.estimates.simulated import Simulated, with_simulated
from tests.random_pairs import random_pair as tiny_random_pair


def test_random_weights_decode_to_many_tokens(monkeypatch):
    monkeypatch.setattr("eval.benchmarking.models.PYRAMID_256", (1, 2, 3, 4))
    monkeypatch.setattr("eval.benchmarking.models.WIDTH_PER_DEPTH", 2)
    pair = random_pair(["d24", "d16"], torch.bfloat16, torch.device("cpu"))
    assert (pair.target.depth, pair.draft.depth) == (24, 16)
    assert pair.target.dtype == torch.bfloat16
    assert pair.target.head.weight.dtype == torch.float32
    fresh = sdvar.VAR((1, 2, 3, 4), depth=24, width=48, heads=24)
    for name, buffer in fresh.named_buffers():
        assert torch.equal(buffer, pair.target.get_buffer(name).to(buffer.dtype)), name
    result = sdvar.decode(pair, [1, 2], [1, 2], sdvar.Baseline(), sdvar.Sampling(1.5, 900, 0.96), images=False)
    assert len(torch.cat([part.flatten() for part in result.tokens]).unique()) > 20


def test_simulated_rates_are_the_rates():
    pair = tiny_random_pair()
    strategy = with_simulated({"s": sdvar.Speculative(gamma=3)}, [0.0, 1.0, 0.5, 0.0], 4)["s"]
    stats = sdvar.decode(pair, [0] * 400, range(400), strategy, images=False).stats
    accepted = (stats.accepted_scales / stats.drafted_scales).tolist()[1:3]  # nothing drafts scale 0 or the last
    assert accepted[0] == 1
    assert accepted[1] == pytest.approx(0.5, abs=0.1)
    baseline = {"b": sdvar.Baseline(), "s": strategy}
    assert with_simulated(baseline, [1.0], 4)["b"] == sdvar.Baseline()
    assert with_simulated(baseline, [1.0], 4)["s"].acceptance == Simulated((1.0,) * 4)
    assert not strategy.lossless


def test_turns_rotate_and_kernels_are_named_in_the_warm_up_alone():
    def runner(name):
        def run(labels, seeds):
            ran.append((name, seeds.tolist()))
            named.append(logging.getLogger("sdvar.attention").isEnabledFor(logging.INFO))

        return Runner(name, run, lambda: 0)

    ran, named = [], []
    measure([runner("a"), runner("b")], 2, 10, torch.device("cpu"), warmup=1, repeats=3)
    warm, first, second, third = (ran[i : i + 2] for i in (0, 2, 4, 6))
    assert ["".join(name for name, _ in turn) for turn in (warm, first, second, third)] == ["ab", "ab", "ba", "ab"]
    assert named[:2] == [True, True] and not any(named[2:])
    assert first[0][1] == first[1][1] == [0, 1]
    assert second[0][1] == second[1][1] == [2, 3]
