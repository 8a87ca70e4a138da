"""The steps of the first contact on simulated devices: what is right passes, and a fault is found where it shows."""

import functools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import sdvar
from eval.contact.step import FAILED, PASSED, SKIPPED, Place
from eval.contact.steps import blocks, devices, eager, environment, graphs, head, invariance, kernel, selftest
from sdvar.decoding.state import DecodeState
from sdvar.kernels import reference
from tests.random_pairs import random_var

PYRAMID = (1, 2, 3)


@functools.cache
def files():
    """A small pair that often agrees, as state dicts."""
    target = random_var(PYRAMID, seed=2, depth=1, width=16)
    draft = random_var(PYRAMID, seed=2, depth=1, width=16)
    with torch.no_grad():
        draft.head.weight += 0.02 * torch.randn(draft.head.weight.shape)
    tokenizer = sdvar.VQVAE(PYRAMID, target.codebook_size, 8, base_channels=32, channel_multipliers=(1,), res_blocks=1)
    return {"draft": draft.state_dict(), "target": target.state_dict(), "tokenizer": tokenizer.state_dict()}


def load(dtype):
    return sdvar.load_pair(**files(), patch_nums=PYRAMID, dtype=dtype)


@pytest.fixture
def place(cuda, tmp_path):
    return Place(torch.device("cuda", 0), str(tmp_path), tiny=True, load=load, images=8)


@pytest.mark.parametrize(
    "step", [environment, eager, selftest, graphs, invariance, devices], ids=lambda step: step.__name__
)
def test_a_step_passes(cuda, place, step):
    outcome = step.run(place)
    assert outcome.verdict == PASSED, outcome.finding
    assert "\n" not in outcome.finding
    if step is graphs:
        assert cuda.count("checked capture") > 0 and outcome.facts["input_liveness_checked"]


def wrong_tokens(monkeypatch, when):
    """Another token at the start of the last scale, wherever ``when`` of the seeds holds."""
    pick = DecodeState.pick

    def wrong(state, images, scale, logits):
        tokens = pick(state, images, scale, logits)
        if scale == 2 and when(state):
            tokens = torch.cat(((tokens[:, :1] + 1) % state.pair.target.codebook_size, tokens[:, 1:]), dim=1)
        return tokens

    monkeypatch.setattr(DecodeState, "pick", wrong)


def test_other_tokens_than_the_cpus_are_found(place, monkeypatch):
    wrong_tokens(monkeypatch, lambda state: state.seeds.is_cuda)
    outcome = eager.run(place)
    assert outcome.verdict == FAILED
    assert "Baseline(model='target'): 4 of 4 images have other tokens than on the CPU, in float64" in outcome.finding
    assert "no near-tie" in outcome.finding


def test_a_batch_that_changes_its_images_is_found(place, monkeypatch):
    wrong_tokens(monkeypatch, lambda state: state.batch == 7)
    outcome = invariance.run(place)
    assert outcome.verdict == FAILED
    assert "batches of 7: 7 of 8 images have other tokens than a batch of 8" in outcome.finding


def test_a_small_gpu_decodes_fewer_images(place, monkeypatch):
    monkeypatch.setattr(invariance, "decode_bytes", lambda pair, strategy, batch: 100 * batch)
    monkeypatch.setattr(invariance, "free_bytes", lambda device: 399)
    assert invariance._fitting(place.pair(torch.bfloat16), 8) == 2
    monkeypatch.setattr(invariance, "free_bytes", lambda device: 99)
    with pytest.raises(ValueError, match="not even 1 fits"):
        invariance._fitting(place.pair(torch.bfloat16), 8)


def test_a_second_device_that_differs_is_found(place, monkeypatch):
    wrong_tokens(monkeypatch, lambda state: state.seeds.device.index == 1)
    assert "cuda:1, replayed: 4 of 4 images have other tokens" in devices.run(place).finding


def test_graphs_that_are_not_captured_are_found(place, monkeypatch):
    monkeypatch.setattr("sdvar.models.running.cuda_graphs.launches_dominate", lambda *of_pass: False)
    outcome = graphs.run(place)
    assert (outcome.verdict, outcome.finding) == (FAILED, "no pass was captured; the warnings say why")


def test_one_device_and_a_kernel_that_does_not_run_are_skipped(cuda, place):
    cuda.devices = 1
    assert devices.run(place).verdict == SKIPPED
    outcome = kernel.run(place)  # Triton cannot launch on a simulated device
    assert outcome.verdict == SKIPPED
    assert "torch's operations pick in its place" in outcome.finding
    assert blocks.run(place).verdict == SKIPPED


def test_a_wrong_kernel_of_the_head_is_found(cuda, place, monkeypatch):
    kernel = pytest.importorskip("sdvar.kernels.head")
    monkeypatch.setattr(head, "SIZES", ((32, 20), (7, 3)))
    monkeypatch.setattr(head, "ROWS", (2, 3))
    assert head.run(place).verdict == SKIPPED  # Triton cannot launch on a simulated device
    monkeypatch.setattr(kernel, "product", F.linear)
    outcome = head.run(place)
    assert outcome.verdict == PASSED and "3 rows" in outcome.finding
    assert set(outcome.facts["milliseconds"]) == {"kernel", "torch"}
    monkeypatch.setattr(kernel, "product", lambda h, weight, bias: F.linear(h, weight.bfloat16().float(), bias))
    outcome = head.run(place)
    assert outcome.verdict == FAILED and "width 7, 3 columns: random rows: off by" in outcome.finding
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    assert head.run(place).verdict == SKIPPED


def test_wrong_kernels_of_blocks_are_found(place, monkeypatch):
    pytest.importorskip("triton")
    for name, value in {"DTYPES": (torch.bfloat16,), "SIZES": ((32, 2),), "ROWS": 2, "TOKENS": 3}.items():
        monkeypatch.setattr(blocks, name, value)
    place = replace(place, device=torch.device("cpu"))
    for name in ("modulated", "added", "add", "heads"):
        monkeypatch.setattr(f"sdvar.kernels.blocks.{name}", getattr(reference, name))
    monkeypatch.setattr("sdvar.kernels.f_hat.added", lambda f_hat, h, convolved: f_hat + (h + convolved) / 2)
    assert blocks.run(place).verdict == PASSED
    monkeypatch.setattr("sdvar.kernels.blocks.add", lambda x, branch, gain: x.add_(branch.view_as(x)))
    outcome = blocks.run(place)
    assert outcome.verdict == FAILED and "bfloat16, width 32: sum: off by" in outcome.finding
    monkeypatch.setattr("sdvar.kernels.f_hat.added", lambda f_hat, h, convolved: f_hat)
    assert "f-hat of 32 channels: other numbers than torch's" in blocks.run(place).finding
    monkeypatch.setattr("sdvar.kernels.blocks.added", lambda x, *others: torch.full((32, 32), len(x)))
    assert "a token's numbers change with the tokens beside it" in blocks.run(place).finding
