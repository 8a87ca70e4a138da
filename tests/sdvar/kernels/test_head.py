"""The head's product by tensor cores: how exact it is, compiled for GPUs that are not here, and its selection."""

import logging
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import sdvar
from sdvar.kernels import head_trial, reference, selection
from tests.random_pairs import close_pair, random_var, same_tokens
from tests.sdvar.kernels import on_simulated_cuda
from tests.sdvar.kernels.compiling import NoDevice, OnlyCompiled, skip_unless_it_compiles, usage
from tests.simulated_cuda import moved, on_host

DEPTH, STEP = 16, 4  # terms between two roundings to nearest; terms that a tensor core of an A100 adds at once
MOST_REGISTERS = {64: 104, 128: 200}  # of a thread, by the rows of a tile: five programs of 128 threads, one of 256


def first_bits(x, bits, nearest=True):
    """Rounded to so many bits, or cut off after them."""
    dropped = 1 << 24 - bits
    return ((x.view(torch.int32) + (dropped // 2 if nearest else 0)) & -dropped).view(torch.float32)


def towards_zero(exact):
    """Float64 numbers as float32 ones, what does not fit cut off."""
    near = exact.float()
    return torch.where(near.double().abs() > exact.abs(), torch.nextafter(near, torch.zeros_like(near)), near)


def by_tensor_cores(rows, weight, bits, depth=DEPTH):
    """rows W^T from numbers split in two of so many bits, by units that cut off all sums."""
    highs = [first_bits(values, bits) for values in (rows, weight)]
    lows = [first_bits(values - high, bits, nearest=False) for values, high in zip((rows, weight), highs)]
    total = torch.zeros(len(rows), len(weight))
    for start in range(0, rows.shape[1], depth):
        part = torch.zeros_like(total)
        for a, b in ((highs[0], lows[1]), (lows[0], highs[1]), (highs[0], highs[1])):
            for k in range(start, min(start + depth, rows.shape[1]), STEP):
                terms = a[:, k : k + STEP].double() @ b[:, k : k + STEP].double().T
                part = towards_zero(part.double() + terms)
        total = total + part
    return total


@pytest.mark.parametrize("width", [1024, pytest.param(1920, marks=pytest.mark.proof)])
@pytest.mark.parametrize("number", [0, 1], ids=["random rows", "rows that cancel"])
def test_two_numbers_of_tf32_are_as_exact_as_float32_and_of_bfloat16_are_not(width, number):
    _, rows, weight, _ = list(head_trial._numbers(torch.device("cpu"), width, 48))[number]
    exact = rows.double() @ weight.double().T

    def error(ours):
        return head_trial._error(ours, exact) / head_trial._error(F.linear(rows, weight), exact)

    assert error(by_tensor_cores(rows, weight, bits=11)) < 1.2
    assert error(by_tensor_cores(rows, weight, bits=8)) > 8
    assert error(by_tensor_cores(rows, weight, bits=11, depth=width)) > 10  # all terms added by tensor cores


@pytest.fixture
def compiled(monkeypatch):
    """Calls of the kernel compile it for a GPU of some compute capability, and launch nothing."""
    skip_unless_it_compiles()
    from triton.runtime.driver import driver

    from sdvar.kernels import head

    made = []
    monkeypatch.setattr(head, "head_kernel", OnlyCompiled(head.head_kernel, made))

    def call(capability, rows, width, columns):
        driver.set_active(NoDevice(capability))
        head.product(torch.zeros(rows, width), torch.zeros(columns, width), torch.zeros(columns))
        return made[-1]

    yield call
    driver.set_active(None)  # chosen anew when it is needed


@pytest.mark.parametrize(("capability", "rows", "width"), [
    (90, 1, 1920), (80, 1024, 1920),
    *(pytest.param(*case, marks=pytest.mark.proof) for case in (
        (80, 1, 1920), (90, 1024, 1920), (80, 1024, 1024), (90, 1024, 1024), (90, 1024, 2304),
    )),
])  # fmt: skip
def test_compiles_without_a_device(compiled, capability, rows, width):
    from sdvar.kernels import head

    kernel, tile = compiled(capability, rows, width, 4096), head.LARGE if rows >= head.LARGE_FROM else head.SMALL
    ptx, used = kernel.asm["ptx"], usage(kernel)
    assert 0 < used["REG"] <= MOST_REGISTERS[tile.rows]
    assert used["STACK"] == used["LOCAL"] == 0  # nothing is spilled
    assert kernel.metadata.shared <= 96 << 10  # two programs share a multiprocessor's
    assert re.search(r"cp\.async\.cg\S+ \[[^]]+\], \[[^]]+\], 0x10", ptx)  # 16 bytes a load, ahead of the products
    assert re.search(r"wgmma\.mma_async\S+tf32\.tf32" if capability == 90 else r"mma\.sync\S+tf32\.tf32", ptx)
    # each number of a thread is added to what was there by float32's own sum
    own = tile.rows * tile.columns // (32 * tile.warps)
    assert len(re.findall(r"\badd(\.rn)?\.f32", ptx)) >= 2 * own  # the bias too
    assert compiled(capability, rows + 5, width, 4096) is kernel  # serves every batch and scale


def test_any_sizes_compile(compiled):
    for columns in (1, 130):
        assert usage(compiled(90, 3, 70, columns))["STACK"] == 0


def product(h, weight, bias):
    """In the place of `sdvar.kernels.head.product` on a simulated device, as one launch."""
    return on_simulated_cuda.launched("head", F.linear, h, weight, bias)


@pytest.fixture
def fused(cuda, monkeypatch):
    """The simulated device, on which blocks and heads run by kernels."""
    monkeypatch.setattr("sdvar.models.transformer.fused_blocks", lambda *of_blocks: on_simulated_cuda.StandIn())
    monkeypatch.setattr("sdvar.models.transformer.fused_head", lambda *of_head: product)
    return cuda


@pytest.mark.parametrize("graphs", [True, pytest.param(False, marks=pytest.mark.proof)])
def test_coupled_is_the_baseline_with_the_kernel(fused, graphs):
    pair = sdvar.Engine(graphs=graphs).apply(moved(close_pair((1, 2, 3), torch.float32), "cuda:0"))
    batch = [1, 2, 3], [6, 7, 8]
    sampling = sdvar.Sampling(top_k=20, top_p=0.9)
    expected = on_host(sdvar.decode(pair, *batch, sdvar.Baseline(), sampling, images=False))
    for _ in range(2):
        ours = on_host(sdvar.decode(pair, *batch, sdvar.Speculative(2), sampling, images=False))
        assert same_tokens(ours, expected)
    kinds = {
        kind for kind in ("launch", "launch in a graph") if ("models/transformer.py", "head") in names(fused, kind)
    }
    assert kinds == ({"launch", "launch in a graph"} if graphs else {"launch"})


def names(cuda, kind):
    return {(place.split(":")[0], what) for place, what in cuda.places(kind)}


def test_with_tf32_allowed_the_head_is_torchs_product(fused):
    model = random_var((1, 2), seed=2).to("cuda:0")
    for allowed in (False, True):
        fused.events.clear()
        with torch.no_grad(), sdvar.engine.tf32_allowed(allowed):
            conditioning = model.condition(torch.zeros(1, dtype=torch.int64, device="cuda:0"))
            model.forward_span(conditioning, torch.zeros(1, 0, 8, device="cuda:0"), 0, 1)
        assert (("models/transformer.py", "head") in names(fused, "launch")) != allowed


def test_the_kernel_is_part_of_what_graphs_and_class_prefixes_depend_on(cuda, monkeypatch):
    model = moved(close_pair((1, 2), torch.float32), "cuda:0").target
    monkeypatch.setattr(selection, "_tried_blocks", lambda *of_blocks: reference)
    monkeypatch.setattr(selection, "_tried_head", lambda *of_head: product)
    fused = model.graph_state()
    with selection.torch_alone(selection.HEAD):
        assert model.graph_state() != fused


def test_other_heads_multiply_by_torchs_product(monkeypatch):
    monkeypatch.setattr(selection, "_tried_blocks", lambda *of_blocks: reference)
    monkeypatch.setattr(selection, "_tried_head", lambda *of_head: product)
    device, model = torch.device("cuda", 0), random_var((1, 2), seed=1)
    assert selection.fused_head(torch.device("cpu"), 64, 32) is None
    assert model.head_kernel(device) is product
    with selection.torch_alone(selection.BLOCKS):
        assert model.head_kernel(device) is None
    assert model.bfloat16().head_kernel(device) is None


@pytest.mark.parametrize(("capability", "said"), [((9, 0), True), ((8, 6), False)])
def test_a_kernel_that_does_not_run_is_said_where_it_should(monkeypatch, caplog, capability, said):
    """Where tensor cores multiply TF32 no faster than three times as fast as float32, it is not even tried."""
    pytest.importorskip("triton")
    properties = SimpleNamespace(major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(head_trial, "problems", lambda *of_head: ["random rows: off by 0.3, limit 0.01"])
    for cached in (selection._tried_head, selection._say_once):
        cached.cache_clear()
    with caplog.at_level(logging.WARNING, "sdvar.kernels"):
        for width in (64, 128):
            assert selection.fused_head(torch.device("cuda", 0), width, 32) is None
    selection._tried_head.cache_clear()
    assert len(caplog.messages) == said
    assert all(line.startswith("the head multiplies by torch's product") for line in caplog.messages)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    from sdvar.kernels import head

    assert head_trial.problems(head, torch.device("cuda", 0), 1920, 4096) == []
    assert head_trial.problems(head, torch.device("cuda", 0), 70, 130) == []
