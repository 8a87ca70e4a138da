"""The fused pick: under Triton's interpreter, compiled for GPUs that are not here, and its selection."""

import logging
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

import sdvar
from sdvar.kernels import selection
from tests.paths import ROOT
from tests.random_pairs import close_pair, same_tokens

MOST_REGISTERS = 128  # of a thread: two programs of 256 threads share the registers of a multiprocessor


def test_under_the_interpreter():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    result = subprocess.run(
        [*command, "tests/sdvar/kernels/interpreted_pick.py"],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-6000:]


PARTS = ("GUIDED", "TEMPERED", "BY_K", "BY_P", "JUDGED")


def compiled(capability: int, vocabulary: int, parts: bool) -> tuple[str, str]:
    """The kernel with all its parts or none for such a GPU: its PTX, and what it uses of the GPU."""
    triton = pytest.importorskip("triton")
    if triton.knobs.runtime.interpret:
        pytest.skip("TRITON_INTERPRET is set: nothing is compiled")
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    for tool in ("ptxas", "cuobjdump"):
        if not (tools / tool).is_file():
            pytest.skip(f"this Triton has no {tool}")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from sdvar.kernels import pick

    types = {
        "logits": "*fp32", "guidance": "*fp32", "temperature": "*fp32", "scales": "*i32", "places": "*i32",
        "seeds": "*i64", "drafted": "*i64", "tokens": "*i64", "finite": "*i1", "agreed": "*i32", "drop": "fp32",
    }  # fmt: skip
    constants = {"V": vocabulary, "BLOCK": vocabulary, **dict.fromkeys(PARTS, parts)}
    if not parts:
        constants |= dict.fromkeys(("guidance", "temperature", "drafted", "agreed"))
    names = pick.pick_kernel.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    source = ASTSource(
        fn=pick.pick_kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in types if name not in {*constants, "drop"}},
    )
    target = GPUTarget("cuda", capability, 32)
    made = triton.compile(source, target=target, options=pick.launch_options(vocabulary))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        command = [tools / "cuobjdump", "-res-usage", file.name]
        return made.asm["ptx"], subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("capability, vocabulary", [(80, 4096), (90, 4096), (90, 8192)])
def test_compiles_without_a_device(capability, vocabulary):
    ptx, usage = compiled(capability, vocabulary, parts=True)
    used = {name: int(number) for name, number in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    assert 0 < used["REG"] <= MOST_REGISTERS
    assert used["STACK"] == used["LOCAL"] == 0  # nothing is spilled
    assert "ld.global.v4" in ptx  # four logits a load
    assert "div.rn.f32" in ptx and "div.full.f32" not in ptx  # as torch divides
    assert ".ftz" not in ptx and "approx" not in ptx
    # products and sums are fused nowhere but in the two logarithms of the 16 numbers of a thread
    assert len(re.findall(r"\bfma\.rn\.f32", ptx)) % 16 == 0


def test_the_plain_pick_compiles_without_what_it_does_not_take():
    ptx, _ = compiled(90, 4096, parts=False)
    assert "div." not in ptx and "atom." not in ptx


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
    assert selection.fused_pick(pair.device, torch.float32, pair.target.codebook_size)
    batch = pair, list(range(10)), list(range(10)), sdvar.Speculative(2), sdvar.Sampling(top_k=12, top_p=0.9)
    fused = sdvar.decode(*batch, images=False)
    monkeypatch.setattr("sdvar.decoding.stepper.fused_pick", lambda *of_logits: None)
    assert same_tokens(fused, sdvar.decode(*batch, images=False))
