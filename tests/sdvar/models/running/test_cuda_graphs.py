"""CUDA graphs on simulated devices: what is captured when, what the graphs read, and what becomes of them."""

import copy
import gc

import pytest
import torch

import sdvar
from sdvar.decoding.warmup import warm_up
from sdvar.models.cost import VARCost
from sdvar.models.running import cuda_graphs, launches
from sdvar.models.running.cuda_graphs import no_captures
from sdvar.models.transformer import VAR
from tests.random_pairs import close_pair, random_pair, same_tokens
from tests.simulated_cuda import moved, on_host

SAMPLING = sdvar.Sampling(top_k=20, top_p=0.9)
BATCH, OTHER_BATCH = ([1, 2, 3], [6, 7, 8]), ([0, 9, 8], [16, 17, 18])
PYRAMID = (1, 2, 3)


@pytest.fixture(scope="module")
def reference():
    """The same on the CPU."""
    pair = close_pair(PYRAMID)
    return [sdvar.decode(pair, *batch, sdvar.Speculative(2), SAMPLING) for batch in (BATCH, OTHER_BATCH)]


def graphed(pair, device="cuda:0", **engine):
    return sdvar.Engine(graphs=True, **engine).apply(moved(pair, device))


def decode(pair, batch=BATCH, strategy=None, sampling=SAMPLING):
    return on_host(sdvar.decode(pair, *batch, strategy or sdvar.Speculative(2), sampling, images=False))


def captures(cuda, work):
    """How many graphs some work captures."""
    before = cuda.count("capture")
    work()
    return cuda.count("capture") - before


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_replays_compute_what_the_cpu_does_on_every_device(cuda, reference, device):
    """The current device is cuda:0 throughout."""
    pair = graphed(close_pair(PYRAMID), device)
    for batch, expected in zip((BATCH, OTHER_BATCH), reference):
        assert same_tokens(decode(pair, batch), expected)
    assert cuda.count("replay") > cuda.count("capture") > 0
    assert cuda.contexts == {int(device[-1])} and cuda.current == 0


def test_the_same_decode_again_captures_nothing(cuda):
    pair = graphed(close_pair(PYRAMID))
    for strategy in (sdvar.Baseline(), sdvar.Speculative(2), sdvar.Handoff(2)):
        assert captures(cuda, lambda: decode(pair, strategy=strategy))  # noqa: B023
        assert captures(cuda, lambda: decode(pair, strategy=strategy)) == 0  # noqa: B023


def test_nothing_is_captured_while_it_is_timed(cuda, reference):
    pair = graphed(close_pair(PYRAMID))

    def timed():
        with no_captures():
            assert same_tokens(decode(pair), reference[0])

    assert captures(cuda, timed) == 0
    assert captures(cuda, lambda: decode(pair)) > 0


def test_a_comparison_leaves_the_graphs_of_the_target(cuda):
    pair = graphed(close_pair(PYRAMID))
    ours, theirs = decode(pair, strategy=sdvar.Baseline("draft")), decode(pair, strategy=sdvar.Baseline())

    def compare():
        gaps = sdvar.first_differences(pair, *BATCH, SAMPLING, ours.tokens, theirs.tokens)
        assert not gaps.isnan().all()

    assert captures(cuda, compare) == 0
    assert captures(cuda, lambda: decode(pair, strategy=sdvar.Baseline())) == 0


def test_draft_and_target_in_one_keep_the_graphs_of_both(cuda):
    pair = random_pair(PYRAMID, same=True)
    expected = sdvar.decode(pair, *BATCH, sdvar.Speculative(2), SAMPLING)
    graphed(pair)
    for _ in range(2):
        assert same_tokens(decode(pair), expected)
    assert captures(cuda, lambda: decode(pair)) == 0


def test_arms_with_and_without_guidance_and_other_batch_sizes_keep_theirs(cuda):
    pair = graphed(close_pair(PYRAMID))
    arms = [
        lambda: decode(pair, strategy=sdvar.Baseline(), sampling=sdvar.Sampling(cfg=0.0)),
        lambda: decode(pair, strategy=sdvar.Baseline()),
        lambda: decode(pair, ([1], [2]), strategy=sdvar.Baseline()),
    ]
    assert all(captures(cuda, arm) for arm in arms)
    assert [captures(cuda, arm) for arm in arms] == [0, 0, 0]


@pytest.mark.parametrize("strategy", [sdvar.Baseline(), sdvar.Speculative(1), sdvar.Handoff(1)], ids=repr)
@pytest.mark.one_in(2)
def test_passes_with_and_without_the_null_branch_have_graphs_of_their_own(cuda, strategy):
    pair, sampling = close_pair(PYRAMID), sdvar.Sampling(2.0, cfg_until=2)
    batch = [1, 2, 3, 4, 5], [6, 7, 8, 9, 10]  # in groups of other sizes after the first round
    expected = sdvar.decode(pair, *batch, strategy, sampling, images=False)
    graphed(pair)
    for _ in range(2):
        assert same_tokens(decode(pair, batch, strategy, sampling), expected)
    assert cuda.count("replay") > cuda.count("capture") > 0


def test_workspaces_of_a_model_share_the_memory_of_one_cache(cuda):
    pair = graphed(close_pair(PYRAMID))
    decode(pair, strategy=sdvar.Baseline())
    decode(pair, ([1], [2]), strategy=sdvar.Baseline(), sampling=sdvar.Sampling(cfg=0.0))
    guided, plain = (pair.target.workspace(n, cfg) for n, cfg in ((3, True), (1, False)))
    assert guided.cache.keys.data_ptr() != plain.cache.keys.data_ptr()  # both in use
    pair.target.hand_back(plain)
    pair.target.hand_back(guided)
    one = pair.target.workspace(1, True)
    assert one.cache.keys.data_ptr() == guided.cache.keys.data_ptr()


@pytest.mark.parametrize("change", ["moved away and back", "kernel", "dtype"])
def test_graphs_of_other_weights_or_kernels_are_gone(cuda, reference, change):
    pair = graphed(close_pair(PYRAMID))
    decode(pair)
    if change == "moved away and back":
        moved(moved(pair, "cpu"), "cuda:0")
    elif change == "kernel":
        sdvar.Engine(graphs=True, attention="math").apply(pair)
    else:
        for model in (pair.draft, pair.target):
            model.float().double()
    gc.collect()
    assert captures(cuda, lambda: decode(pair)) > 0
    if change != "dtype":
        assert same_tokens(decode(pair), reference[0])


def test_a_graph_owns_what_it_reads(cuda, reference):
    """Even if the model's weights and every cache of functions are gone."""
    pair = graphed(close_pair(PYRAMID))
    decode(pair)
    workspace = pair.target.workspace(3, True)
    workspace.begin(BATCH[0])
    sdvar.pyramid._block_causal_mask.cache_clear()
    for module in pair.target.modules():
        module._parameters = dict.fromkeys(module._parameters)
        module._buffers = dict.fromkeys(module._buffers)
    gc.collect()
    replayed = [captured.graph.replay() for captured in workspace._captured.values()]
    assert replayed


def test_copies_of_a_model_start_without_workspaces(cuda):
    pair = graphed(close_pair(PYRAMID))
    decode(pair)
    assert copy.copy(pair.target._kept)._free == []
    assert pair.target._kept._free


def test_a_decode_that_fails_leaves_nothing_behind(cuda):
    pair = graphed(close_pair(PYRAMID))
    state = sdvar.decoding.DecodeState(pair, *(torch.tensor(x).to("cuda:0") for x in BATCH), SAMPLING)
    cache = state.stepper("target").workspace.cache.keys.held
    weak = torch.multiprocessing.reductions.StorageWeakRef(cache.untyped_storage())
    del state, cache
    assert weak.expired()


def test_what_cannot_be_captured_runs_without_and_the_others_are_captured(cuda, reference, monkeypatch, caplog):
    forward, stream = VAR.forward_span, torch.cuda.current_stream()

    def reads(model, conditioning, inputs, first, last, *rest):
        if (first, last) == (1, 2) and cuda.recording is not None:
            inputs.sum().item()
        return forward(model, conditioning, inputs, first, last, *rest)

    monkeypatch.setattr(VAR, "forward_span", reads)
    pair = graphed(close_pair(PYRAMID))
    assert same_tokens(decode(pair), reference[0])
    assert (
        "no CUDA graph, they run without (CUDA error: operation not permitted when stream is capturing" in caplog.text
    )
    assert cuda.count("replay") > 0
    assert cuda.streams == {} and torch.cuda.current_stream().device_index == stream.device_index
    assert captures(cuda, lambda: decode(pair)) == 0  # it is not tried again
    cuda.faults.clear()  # a capture that fails may be empty


def test_out_of_memory_in_a_capture_drops_the_graphs_and_goes_on(cuda, reference, monkeypatch, caplog):
    capture, made = cuda_graphs.capture, []

    def runs_out(*arguments):
        if len(made) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        made.append(capture(*arguments))
        return made[-1]

    pair = graphed(close_pair(PYRAMID))
    monkeypatch.setattr(cuda_graphs, "capture", runs_out)
    assert same_tokens(decode(pair), reference[0])
    assert "no memory for a CUDA graph" in caplog.text


def test_graphs_serve_under_inference_mode_and_outside_of_it(cuda, reference):
    """Also a model that was moved under it, whose weights are then inference tensors, as Lightning does."""
    with torch.inference_mode():
        pair = graphed(close_pair(PYRAMID))
        assert pair.target.head.weight.is_inference()
        assert same_tokens(decode(pair), reference[0])
    assert same_tokens(decode(pair), reference[0])
    assert captures(cuda, lambda: decode(pair)) == 0


def test_tf32_is_part_of_what_a_graph_computes(cuda):
    pair = graphed(close_pair(PYRAMID))
    decode(pair, strategy=sdvar.Baseline())
    with sdvar.Engine(tf32=True).numerics():
        assert captures(cuda, lambda: decode(pair, strategy=sdvar.Baseline())) > 0
    assert captures(cuda, lambda: decode(pair, strategy=sdvar.Baseline())) == 0


class Sizes:
    """A model that is its costs, of the released size."""

    pyramid = sdvar.ScalePyramid((1, 2, 3, 4, 5, 6, 8, 10, 13, 16))
    dtype, logits_dtype, codebook_size = torch.bfloat16, torch.float32, 4096

    def __init__(self, depth):
        self.depth = depth

    def cost(self):
        width = 64 * self.depth
        return VARCost(self.pyramid, self.depth, width, 4 * width, block_bytes=2, matrix_bytes=2, adaln_bytes=2)


@pytest.mark.parametrize("depth", [16, 30])
def test_graphs_serve_where_launches_dominate(depth):
    """A large batch gains nothing, and padding it would cost a third more."""
    model = Sizes(depth)
    assert all(launches.launches_dominate(model, 2, k, k + 1) for k in range(10))
    assert launches.launches_dominate(model, 128, 0, 1)
    assert not any(launches.launches_dominate(model, 128, k, k + 1) for k in range(5, 10))


@pytest.mark.parametrize("depth", [16, 30])
@pytest.mark.parametrize("images", [1, 8, 64])
def test_memory_of_graphs_is_known_and_small(depth, images):
    assert 1 << 20 < cuda_graphs.graph_bytes(Sizes(depth), images, guided=True) < 1 << 29


def test_passes_that_gain_nothing_run_in_exact_groups(cuda, reference, monkeypatch):
    monkeypatch.setattr(launches, "LAUNCH_SECONDS", 0.0)
    pair = graphed(close_pair(PYRAMID))
    assert captures(cuda, lambda: decode(pair)) == 0
    assert same_tokens(decode(pair), reference[0])


def test_a_draft_of_shared_layers_follows_a_change_of_the_target(cuda):
    """Its layers are the target's; it is not asked itself."""
    target = close_pair(PYRAMID).target
    draft = sdvar.draft_of(target, "target:first=2")
    pair = graphed(sdvar.ModelPair(draft, target, close_pair(PYRAMID).tokenizer))
    decode(pair, strategy=sdvar.Baseline("draft"))
    target.set_attention("math")
    assert captures(cuda, lambda: decode(pair, strategy=sdvar.Baseline("draft"))) > 0


def test_a_warm_up_goes_on_until_nothing_is_captured(cuda):
    pair = graphed(close_pair(PYRAMID))
    made = []

    def run(number):
        made.append(number)
        decode(pair, (BATCH[0], [seed + 100 * number for seed in BATCH[1]]))

    warm_up(run, (pair.draft, pair.target))
    assert 2 <= len(made) <= 8
    before = cuda.count("capture")
    run(made[-1])
    assert cuda.count("capture") == before
