"""The kernels of a block: compiled for GPUs that are not here, on a simulated one, and their selection."""

import logging
import re

import pytest
import torch

import sdvar
from sdvar.kernels import reference, selection
from sdvar.models.kv_cache import CacheWindow, LayerCache
from sdvar.models.layers.attention import block_causal
from tests.random_pairs import close_pair, random_var, same_tokens
from tests.sdvar.kernels.compiling import NoDevice, OnlyCompiled, skip_unless_it_compiles, usage
from tests.sdvar.kernels.on_simulated_cuda import StandIn
from tests.simulated_cuda import moved, on_host

PYRAMID = (1, 2, 2, 3)
MOST_REGISTERS = 96  # of a thread: five programs of 128 threads share the registers of a multiprocessor
MOST_LAUNCHES = 10  # of a block in a pass over one scale


@pytest.fixture
def compiled(monkeypatch):
    """Calls of the kernels compile them for a GPU of some compute capability, and launch nothing."""
    skip_unless_it_compiles()
    from triton.runtime.driver import driver

    from sdvar.kernels import blocks

    made = []
    for name in ("row_kernel", "heads_kernel"):
        monkeypatch.setattr(blocks, name, OnlyCompiled(getattr(blocks, name), made))

    def call(capability, *sizes):
        """What the calls of a block compile."""
        driver.set_active(NoDevice(capability))
        made.clear()
        call_all(blocks, *sizes)
        return list(made)

    yield call
    driver.set_active(None)  # chosen anew when it is needed


def call_all(kernels, dtype, width, heads, n=2, tokens=3, start=1):
    """Every kernel, as a block calls it in a pass of n rows over so many tokens from the position ``start`` on."""
    gain, _, scale, _, shift, _ = torch.zeros(n, 2, 6, 1, width, dtype=dtype)[:, 1].unbind(1)
    x, branch = torch.zeros(n, tokens, width), torch.zeros(n * tokens, width, dtype=dtype)
    kernels.modulated(x, scale, shift, dtype)
    kernels.added(x, branch, gain, scale, shift, dtype)
    kernels.add(x, branch, gain)
    bias, qkv = torch.zeros(width, dtype=dtype), torch.zeros(n * tokens, 3 * width, dtype=dtype)
    cache = LayerCache(*(torch.zeros(n, heads, 680, width // heads, dtype=dtype) for _ in range(2)))
    window = CacheWindow(None, 0, start, start + tokens)
    kernels.heads(qkv, (bias, bias, bias), torch.zeros(1, heads, 1, 1), n, cache, window)


@pytest.mark.parametrize(("capability", "depth", "dtype"), [
    (90, 30, torch.bfloat16),
    *(pytest.param(*case, marks=pytest.mark.proof) for case in (
        (80, 30, torch.bfloat16), (80, 30, torch.float32), (90, 30, torch.float32), (90, 16, torch.bfloat16),
        (90, 36, torch.bfloat16),
    )),
])  # fmt: skip
def test_compile_without_a_device(compiled, capability, depth, dtype):
    made = compiled(capability, dtype, 64 * depth, depth)
    assert len(made) == 4
    for kernel in made:
        used, ptx = usage(kernel), kernel.asm["ptx"]
        assert 0 < used["REG"] <= MOST_REGISTERS
        assert used["STACK"] == used["LOCAL"] == 0  # nothing is spilled
        assert "ld.global.v4" in ptx  # 16 bytes a load
        assert not re.search(r"\bfma\.rn\.f32", ptx) or "ex2" in ptx  # products and sums are rounded apart
    again = compiled(capability, dtype, 64 * depth, depth, 16, 256, 424)
    assert all(one is other for one, other in zip(made, again, strict=True))  # serves every batch and scale


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("cached", ["all rows", "some rows", "no cache"])
@pytest.mark.one_in(2)
def test_a_block_by_kernels_is_the_block_of_torchs_operations(qk_norm, cached):
    torch.manual_seed(0)
    model = sdvar.VAR(PYRAMID, 10, 1, 32, 2, 32, 8, qk_norm=qk_norm)
    model.init_weights(adaln_gain=0.5)
    block, modulation = model.blocks[0], torch.randn(3, 6, 1, 32)
    for bias in (block.attn.q_bias, block.attn.v_bias):
        torch.nn.init.normal_(bias)
    rows = torch.tensor([3, 0, 1]) if cached == "some rows" else None
    x = torch.randn(3, 13 if cached != "no cache" else 18, 32)
    window = CacheWindow(rows, 0, 5, 18)
    visible = block_causal(model.pyramid, 2 if cached != "no cache" else 0, 4, 0, x.device)
    filled = [torch.randn(3 if rows is None else 4, 2, 18, 16) for _ in range(2)]
    outcomes = []
    for kernels in (None, reference):
        cache = LayerCache(*(part.clone() for part in filled)) if cached != "no cache" else None
        with torch.no_grad():
            outcomes.append((block(x.clone(), modulation, visible, cache, cache and window, kernels), *(cache or ())))
    for eager, fused in zip(*outcomes, strict=True):
        torch.testing.assert_close(fused, eager)


@pytest.fixture
def fused(cuda, monkeypatch):
    """The simulated device, on which blocks run by kernels."""
    monkeypatch.setattr("sdvar.models.transformer.fused_blocks", lambda *of_blocks: StandIn())
    return cuda


@pytest.mark.parametrize(("rows", "span"), [
    (2, (3, 4)), pytest.param(128, (3, 4), marks=pytest.mark.proof), pytest.param(2, (1, 4), marks=pytest.mark.proof),
])  # fmt: skip
def test_launches_of_a_block(fused, rows, span):
    """Those of attention are one a scale, and one that joins them."""
    counts = []
    for depth in (1, 2):
        model = random_var(PYRAMID, seed=2, depth=depth)
        model.blocks.bfloat16()
        model.to("cuda:0")
        inputs = torch.zeros(rows, model.pyramid.span_tokens(*span), 8, device="cuda:0")
        with torch.no_grad():
            conditioning = model.condition(torch.zeros(rows, dtype=torch.int64, device="cuda:0"))
            cache = model.new_cache(rows)
            for _ in range(2):
                fused.events.clear()
                model.forward_span(conditioning, inputs, *span, cache)
        counts.append(fused.count("launch"))
    scales = span[1] - span[0]
    assert counts[1] - counts[0] <= MOST_LAUNCHES + (scales if scales > 1 else 0)
    assert model.cost().launches(*span) == pytest.approx(counts[1], rel=0.15)


@pytest.mark.parametrize("graphs", [True, pytest.param(False, marks=pytest.mark.proof)])
def test_coupled_is_the_baseline_with_kernels(fused, graphs):
    pair = sdvar.Engine(graphs=graphs).apply(moved(close_pair((1, 2, 3), torch.float32), "cuda:0"))
    batch = [1, 2, 3, 4, 5], [6, 7, 8, 9, 10]
    sampling = sdvar.Sampling(top_k=20, top_p=0.9)
    expected = on_host(sdvar.decode(pair, *batch, sdvar.Baseline(), sampling, images=False))
    for _ in range(2):
        ours = on_host(sdvar.decode(pair, *batch, sdvar.Speculative(2), sampling, images=False))
        assert same_tokens(ours, expected)
    assert {name for _, name in fused.places("launch", "launch in a graph")} >= {"modulated", "added", "add", "heads"}
    assert (fused.count("replay") > fused.count("capture") > 0) == graphs


def test_kernels_are_part_of_what_graphs_and_class_prefixes_depend_on(cuda, monkeypatch):
    model = moved(close_pair((1, 2), torch.float32), "cuda:0").target
    monkeypatch.setattr(selection, "_tried_blocks", lambda *of_blocks: reference)
    fused = model.graph_state()
    with selection.torch_alone(selection.PICK):
        assert model.graph_state() == fused
    with selection.torch_alone(selection.BLOCKS):
        assert model.graph_state() != fused


def test_other_blocks_run_by_torchs_operations(monkeypatch):
    monkeypatch.setattr(selection, "_tried_blocks", lambda *of_blocks: reference)
    device = torch.device("cuda", 0)
    assert selection.fused_blocks(device, torch.bfloat16, 64, 1) is reference
    assert selection.fused_blocks(device, torch.float64, 64, 1) is None
    assert selection.fused_blocks(torch.device("cpu"), torch.bfloat16, 64, 1) is None
    model = random_var((1, 2), seed=1)
    assert model.block_kernels(device) is reference
    assert model.bfloat16().block_kernels(device) is None  # the residual stream is not float32


@pytest.mark.parametrize(("width", "reason"), [(64, "norm: off by"), (16384, "largest width is 8192")])
def test_kernels_that_do_not_run_are_said_once(monkeypatch, caplog, width, reason):
    pytest.importorskip("triton")
    monkeypatch.setattr("sdvar.kernels.trial.problems", lambda *of_blocks: ["norm: off by 0.3, limit 0.01"])
    for cached in (selection._tried_blocks, selection._say_once):
        cached.cache_clear()
    with caplog.at_level(logging.WARNING, "sdvar.kernels"):
        for heads in (1, 2):
            assert selection.fused_blocks(torch.device("cuda", 0), torch.bfloat16, width, heads) is None
    selection._tried_blocks.cache_clear()
    (line,) = caplog.messages
    assert line.startswith("blocks run by torch's operations") and reason in line


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_on_a_gpu(dtype):
    from sdvar.kernels import blocks, trial

    selection._tried_blocks.cache_clear()  # a simulated device may have failed
    assert selection.fused_blocks(torch.device("cuda", 0), dtype, 1024, 16) is blocks
    assert trial.problems(blocks, torch.device("cuda", 0), dtype, 1920, 30, rows=5, tokens=77) == []
