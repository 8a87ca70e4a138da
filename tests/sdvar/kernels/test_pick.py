"""The fused pick: under Triton's interpreter, compiled for GPUs that are not here, and its selection."""

import logging
import os
import re
import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import sdvar
from sdvar import noise
from sdvar.kernels import selection
from sdvar.sampling import pick
from tests.paths import ROOT
from tests.random_pairs import close_pair, same_tokens
from tests.sdvar.kernels.compiling import NoDevice, OnlyCompiled, skip_unless_it_compiles, usage

PYRAMID = sdvar.ScalePyramid((1, 2, 3))
MOST_REGISTERS = 128  # of a thread: two programs of 256 threads share the registers of a multiprocessor


@pytest.mark.parametrize("part", ["not proof", pytest.param("proof", marks=pytest.mark.proof)])
def test_under_the_interpreter(part):
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", part]
    result = subprocess.run(
        [*command, *(f"tests/sdvar/kernels/interpreted_{name}.py" for name in ("pick", "blocks", "head"))],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-6000:]


@pytest.fixture
def compiled(monkeypatch):
    """Calls of the kernel compile it for a GPU of some compute capability, and launch nothing."""
    skip_unless_it_compiles()
    from triton.runtime.driver import driver

    from sdvar.kernels import pick as kernel

    made = []

    def call(capability, shape, guided, tempered, sampling, drafted=0):
        driver.set_active(NoDevice(capability))
        n, count, vocabulary = shape
        numbers = torch.zeros(PYRAMID.length, 1)
        table = [numbers if each else None for each in (guided, tempered)]
        table = kernel.Positions(*PYRAMID.addresses(torch.device("cpu")), *table)
        logits = torch.zeros(2 * n if guided else n, count, vocabulary)
        tokens = torch.zeros(n, drafted, dtype=torch.int64) if drafted else None
        kernel.pick(logits, table, 1, torch.zeros(n, dtype=torch.int64), sampling, tokens, 1)
        return made[-1]

    monkeypatch.setattr(kernel, "pick_kernel", OnlyCompiled(kernel.pick_kernel, made))
    yield call
    driver.set_active(None)  # chosen anew when it is needed


FILTERED = sdvar.Sampling(top_k=900, top_p=0.96)


@pytest.mark.parametrize("capability, vocabulary", [(80, 4096), (90, 4096), (90, 8192)])
def test_compiles_without_a_device(compiled, capability, vocabulary):
    kernel = compiled(capability, (2, 5, vocabulary), True, True, FILTERED, drafted=4)
    ptx, used = kernel.asm["ptx"], usage(kernel)
    assert 0 < used["REG"] <= MOST_REGISTERS
    assert used["STACK"] == used["LOCAL"] == 0  # nothing is spilled
    assert "ld.global.v4" in ptx  # four logits a load
    assert "div.rn.f32" in ptx and "div.full.f32" not in ptx  # as torch divides
    assert ".ftz" not in ptx and "approx" not in ptx
    # products and sums are fused nowhere but in the two logarithms of the 16 numbers of a thread
    assert len(re.findall(r"\bfma\.rn\.f32", ptx)) % 16 == 0


def test_what_is_compiled_serves_every_batch_span_and_filter(compiled):
    """Only which parts there are is compiled in."""
    first = compiled(90, (2, 5, 4096), True, False, FILTERED, drafted=4)
    strict = sdvar.Sampling(top_k=1, top_p=0.5)
    for shape, sampling, drafted in (((1, 1, 4096), FILTERED, 1), ((16, 4, 4096), strict, 3)):
        assert compiled(90, shape, True, False, sampling, drafted) is first
    plain = compiled(90, (2, 5, 4096), False, False, sdvar.Sampling())
    assert "div." not in plain.asm["ptx"] and "atom." not in plain.asm["ptx"]


class Counted(TorchDispatchMode):
    """Counts the operations that a GPU would launch, and the bytes that they read and write."""

    FREE = ("view", "reshape", "slice", "select", "unsqueeze", "expand", "empty", "split", "squeeze", "detach", "t.")

    def __init__(self):
        super().__init__()
        self.launches = self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not any(str(function).startswith(f"aten.{name}") for name in self.FREE):
            self.launches += 1
            for each in (args, result):
                self.add(each)
        return result

    def add(self, value):
        if isinstance(value, torch.Tensor):
            self.bytes += value.numel() * value.element_size()
        elif isinstance(value, list | tuple):
            for each in value:
                self.add(each)


class OneLaunch:
    """In the kernel's place: counts what it reads and writes, and computes nothing."""

    def __init__(self, counted):
        self.counted = counted

    def __getitem__(self, grid):
        def launch(*arguments, **constants):
            self.counted.launches += 1
            self.counted.add([each for each in arguments if isinstance(each, torch.Tensor)])

        return launch


def test_launches_and_bytes_of_a_pick(monkeypatch):
    """One launch where torch takes more than 200; the logits are read once, and nothing of their size is written."""
    kernel = pytest.importorskip("sdvar.kernels.pick")
    t, seeds, vocabulary = torch.zeros(PYRAMID.length, 1), torch.tensor([1, 2, 3]), 1024
    table = kernel.Positions(*PYRAMID.addresses(torch.device("cpu")), t, None)
    raw, sampling = torch.zeros(6, 2, vocabulary), sdvar.Sampling(top_k=200, top_p=0.96)
    with Counted() as eager:
        of_class, of_null = raw.chunk(2)
        guided = (1 + t[:2]) * of_class - t[:2] * of_null
        guided.isfinite().all(-1)
        pick(sampling.filtered(guided), noise.gumbel(seeds, "pick", 1, 2, vocabulary, guided.dtype))
    fused = Counted()
    monkeypatch.setattr(kernel, "pick_kernel", OneLaunch(fused))
    with fused:
        kernel.pick(raw, table, 0, seeds, sampling)
    assert fused.launches == 1 and eager.launches > 200, eager.launches
    read = raw.numel() * 4
    assert read <= fused.bytes < 1.01 * read
    assert eager.bytes > 40 * fused.bytes, eager.bytes / fused.bytes
    fused.launches, drafted = 0, torch.zeros(3, 1, dtype=torch.int64)
    with fused:
        kernel.pick(raw, table, 0, seeds, sampling, drafted, 1)
    assert fused.launches == 2  # the counts begin at zero


def test_other_logits_are_picked_from_by_torch():
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.float64)):
        assert selection.fused_pick(torch.device(device), dtype, 64) is None


@pytest.mark.parametrize("reason", ["no C compiler\nwas found", "it picks other tokens"])
def test_a_kernel_that_does_not_run_is_said_once(monkeypatch, caplog, reason):
    def fail(*arguments):
        raise RuntimeError(reason)

    pytest.importorskip("triton")
    selection._tried.cache_clear()
    monkeypatch.setattr(selection, "_try", fail)
    with caplog.at_level(logging.WARNING, "sdvar.kernels"):
        for _ in range(3):
            assert selection.fused_pick(torch.device("cuda", 0), torch.float32, 64) is None
    selection._tried.cache_clear()
    (line,) = caplog.messages
    assert line.startswith("tokens are picked by torch's operations") and reason.split()[0] in line
    assert "\n" not in line


def test_a_vocabulary_that_is_too_large_is_said(caplog):
    pytest.importorskip("triton")
    with caplog.at_level(logging.WARNING, "sdvar.kernels"):
        assert selection.fused_pick(torch.device("cuda", 0), torch.float32, 8193) is None
    assert "8192" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(monkeypatch):
    """The kernel runs, and a decode with it has the tokens of one without."""
    pair = close_pair(dtype=torch.float32)
    pair = sdvar.ModelPair(pair.draft.cuda(), pair.target.cuda(), pair.tokenizer.cuda())
    selection._tried.cache_clear()  # a simulated device may have failed
    assert selection.fused_pick(pair.device, torch.float32, pair.target.codebook_size)
    batch = pair, list(range(10)), list(range(10)), sdvar.Speculative(2), sdvar.Sampling(top_k=12, top_p=0.9)
    fused = sdvar.decode(*batch, images=False)
    monkeypatch.setattr("sdvar.decoding.stepper.fused_pick", lambda *of_logits: None)
    assert same_tokens(fused, sdvar.decode(*batch, images=False))
