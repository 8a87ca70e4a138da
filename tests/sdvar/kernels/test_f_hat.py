"""The kernel of f-hat: compiled for GPUs that are not here, on a simulated one, and its selection."""

import logging

import pytest
import torch

import sdvar
from sdvar.kernels import selection, trial
from tests.random_pairs import close_pair, random_pair, same_tokens
from tests.sdvar.kernels import on_simulated_cuda
from tests.sdvar.kernels.compiling import NoDevice, OnlyCompiled, skip_unless_it_compiles, usage
from tests.simulated_cuda import moved, on_host


@pytest.mark.parametrize("capability", [80, 90])
def test_compiles_without_a_device(monkeypatch, capability):
    skip_unless_it_compiles()
    from triton.runtime.driver import driver

    from sdvar.kernels import f_hat

    made = []
    monkeypatch.setattr(f_hat, "f_hat_kernel", OnlyCompiled(f_hat.f_hat_kernel, made))
    driver.set_active(NoDevice(capability))
    for batch in (1, 5):
        f_hat.added(*(torch.zeros(batch, 32, 16, 16) for _ in range(3)))
    driver.set_active(None)  # chosen anew when it is needed
    assert 0 < usage(made[0])["REG"] <= 64 and usage(made[0])["STACK"] == 0
    assert "ld.global.v" in made[0].asm["ptx"]


def test_halving_at_the_end_gives_the_bits_of_the_definition():
    """Numbers of all sizes, but for the very small ones."""
    quantizer = random_pair((1, 2, 3), torch.float32).tokenizer.quantize
    generator = torch.Generator().manual_seed(0)
    f_hat = torch.randn(4, quantizer.channels, 3, 3, generator=generator) * torch.logspace(-9, 9, 9).view(3, 3)
    tokens = torch.randint(quantizer.embedding.num_embeddings, (4, 4), generator=generator)
    with torch.no_grad():
        code = quantizer.embedding(tokens)
        assert torch.equal(quantizer.added(f_hat, code, 1), f_hat + quantizer.contribution(tokens, 1))


def test_decodes_with_the_kernel_are_those_without(cuda, monkeypatch):
    pair = sdvar.Engine(graphs=False).apply(moved(close_pair((1, 2, 3), torch.float32), "cuda:0"))
    batch = [1, 2, 3], [6, 7, 8]
    expected = [
        on_host(sdvar.decode(pair, *batch, each, images=False)) for each in (sdvar.Baseline(), sdvar.Handoff(2))
    ]
    monkeypatch.setattr("sdvar.models.quantizer.fused_f_hat", lambda *of_f_hat: on_simulated_cuda.added)
    cuda.events.clear()
    for strategy, one in zip((sdvar.Speculative(2), sdvar.Handoff(2)), expected):
        assert same_tokens(on_host(sdvar.decode(pair, *batch, strategy, images=False)), one)
    assert "f_hat" in {what for _, what in cuda.places("launch")}


def test_where_it_does_not_run_torch_adds(monkeypatch, caplog):
    pytest.importorskip("triton")
    device = torch.device("cuda", 0)
    monkeypatch.setattr(trial, "f_hat_problems", lambda *of_kernel: ["f-hat of 32 channels: other numbers"])
    for cached in (selection._tried_f_hat, selection._say_once):
        cached.cache_clear()
    with caplog.at_level(logging.WARNING, "sdvar.kernels"):
        assert selection.fused_f_hat(torch.device("cpu"), torch.float32) is None
        assert selection.fused_f_hat(device, torch.float64) is None
        with selection.torch_alone(selection.F_HAT):
            assert selection.fused_f_hat(device, torch.float32) is None
        assert caplog.messages == []
        assert selection.fused_f_hat(device, torch.float32) is None
    selection._tried_f_hat.cache_clear()
    (line,) = caplog.messages
    assert line.startswith("f-hat is summed by torch's operations") and "32 channels" in line


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    from sdvar.kernels import f_hat

    assert trial.f_hat_problems(f_hat, torch.device("cuda", 0)) == []
