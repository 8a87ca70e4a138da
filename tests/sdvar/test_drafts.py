"""Drafts made of the target's own weights."""

import copy
import pickle

import pytest
import torch

import sdvar
from sdvar.checkpoints import BUNDLED
from sdvar.drafts import rounded
from sdvar.models.cost import shared_bytes, state_bytes
from sdvar.models.quantized import WEIGHT_KINDS
from tests.random_pairs import random_pair, same_tokens

SAMPLING = sdvar.Sampling(cfg=1.5, top_k=60)
LABELS, SEEDS = torch.arange(10), torch.arange(10)
STRATEGY = sdvar.Speculative(gamma=5)
CALLS = {"target:int8": 2.3, "target:int4": 4.4, "target:fp8": 3.2, "target:bf16": 2.3}  # at most, of 6


@pytest.fixture(scope="module")
def tiny():
    return sdvar.load_pair("tiny")


@pytest.fixture(scope="module")
def baseline(tiny):
    return sdvar.decode(tiny, LABELS, SEEDS, sdvar.Baseline(), SAMPLING, images=False)


def with_draft(pair, draft):
    return sdvar.ModelPair(sdvar.draft_of(pair.target, draft), pair.target, pair.tokenizer)


@pytest.mark.parametrize("draft", CALLS)
@pytest.mark.one_in(3)
def test_rounded_copies_are_exact_and_save_passes(tiny, baseline, draft):
    result = sdvar.decode(with_draft(tiny, draft), LABELS, SEEDS, STRATEGY, SAMPLING, images=False)
    assert same_tokens(result, baseline)
    assert result.stats.target_calls.float().mean() < CALLS[draft]


def test_int8_agrees_more_than_the_bundled_draft(tiny):
    pairs = tiny, with_draft(tiny, "target:int8")
    bundled, int8 = (sdvar.decode(pair, LABELS, SEEDS, STRATEGY, SAMPLING, images=False) for pair in pairs)
    assert int8.stats.target_calls.sum() < 0.6 * bundled.stats.target_calls.sum()


@pytest.mark.parametrize("draft", ["target:int8", "target:int4", "target:first=2"])
def test_a_draft_is_a_model_of_its_own(draft):
    pair = with_draft(random_pair(dtype=torch.float32), draft)
    alone = sdvar.decode(pair, LABELS[:3], SEEDS[:3], sdvar.Baseline("draft"), images=False)
    assert alone.stats.target_calls.sum() == 0
    exact = sdvar.decode(pair, LABELS[:3], SEEDS[:3], sdvar.Speculative(gamma=2), images=False)
    assert same_tokens(exact, sdvar.decode(pair, LABELS[:3], SEEDS[:3], sdvar.Baseline(), images=False))


def test_all_layers_are_the_target():
    pair = random_pair()
    draft = sdvar.draft_of(pair.target, f"target:first={pair.target.depth}")
    inputs = torch.randn(3, pair.pyramid.length - 1, pair.target.latent_channels, dtype=torch.float64)
    assert torch.equal(draft(LABELS[:3], inputs), pair.target(LABELS[:3], inputs))


def test_what_is_not_rounded_is_shared(tiny):
    target, depth, width, hidden = tiny.target, tiny.target.depth, tiny.target.width, tiny.target.hidden
    matrices = depth * (4 * width**2 + 2 * width * hidden)
    state = {name: value.clone() for name, value in target.state_dict().items()}
    draft = sdvar.draft_of(target, "target:int8")
    assert draft.head is target.head and draft.shared_ada_lin is target.shared_ada_lin
    copied = draft.weight_bytes() + target.weight_bytes() - shared_bytes((draft, target)) - target.weight_bytes()
    assert matrices < copied < 1.35 * matrices  # biases, buffers and scales weigh much in so small a model
    assert 2.9 * matrices < state_bytes(target) - state_bytes(draft) < 3 * matrices
    whole = shared_bytes((sdvar.draft_of(target, "target:first=8"), target))
    assert whole == sum(parameter.nbytes for parameter in target.parameters())
    assert all(torch.equal(value, state[name]) for name, value in target.state_dict().items())


def test_a_pass_reads_the_bytes_of_the_rounded_weights(tiny):
    target = tiny.target
    matrices = target.depth * target.cost().block_weights
    whole, rounded, half = (
        model.cost() for model in (target, sdvar.draft_of(target, "target:int8"), sdvar.draft_of(target, "target:bf16"))
    )
    assert whole.span(2, 0, 1).bytes - rounded.span(2, 0, 1).bytes == 3 * matrices
    assert half.matrix_bytes == half.block_bytes == 2
    first = sdvar.draft_of(target, "target:first=2").cost()
    assert first.depth == 2 and first.matrix_bytes == 4


def test_the_attention_kernel_is_its_own_and_copies_decode_the_same():
    pair = random_pair(dtype=torch.float32)
    draft = sdvar.draft_of(pair.target, "target:int8")
    draft.set_attention("products")
    assert pair.target.blocks[0].attn.kernel == "auto"
    inputs = torch.randn(3, pair.pyramid.length - 1, draft.latent_channels)
    expected = draft(LABELS[:3], inputs)
    for again in (copy.deepcopy(draft), pickle.loads(pickle.dumps(draft))):
        assert torch.equal(again(LABELS[:3], inputs), expected)
    engine = sdvar.Engine(attention="math")
    made = engine.apply(sdvar.ModelPair(draft, pair.target, pair.tokenizer))
    assert made.draft.blocks[0].attn.kernel == "math"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.one_in(2)
def test_a_target_in_reduced_precision(dtype):
    pair = sdvar.load_pair("tiny", draft="target:int8", dtype=dtype)
    assert pair.draft.dtype == dtype
    result = sdvar.decode(pair, LABELS[:4], SEEDS[:4], STRATEGY, SAMPLING, images=False)
    assert same_tokens(result, sdvar.decode(pair, LABELS[:4], SEEDS[:4], sdvar.Baseline(), SAMPLING, images=False))


@pytest.mark.parametrize("source", [{"pair": "tiny"}, None])
@pytest.mark.one_in(2)
def test_loading_by_name_and_by_files(source, baseline):
    source = source or {name: BUNDLED / "tiny" / f"{name}.safetensors" for name in ("target", "tokenizer")}
    pair = sdvar.load_pair(**source, draft="target:first=7")
    assert pair.draft.depth == 7 and pair.draft.blocks[0] is pair.target.blocks[0]
    result = sdvar.decode(pair, LABELS, SEEDS, STRATEGY, SAMPLING, images=False)
    assert same_tokens(result, baseline)


@pytest.mark.parametrize(
    ("draft", "options", "message"),
    [
        ("target:int9", {}, "draft: expected one of target:int8, .*, target:first=N, got 'target:int9'; did you mean"),
        ("target:first=", {}, "expected one of"),
        (
            "target:first=0",
            {},
            "expected target:first=N with N from 1 to the 8 layers of the target, got target:first=0",
        ),
        ("target:first=9", {}, "got target:first=9$"),
        ("target:fp8-dynamic", {}, "does not run on cpu with a target in torch.float32; expected one of target:int8, "),
        ("target:int8", {"dtype": torch.float64}, "expected one of target:fp8, target:bf16, target:first=N$"),
        ("target:bf16", {"dtype": torch.bfloat16}, "would be the target; expected one of target:int8, "),
        ("target:int8", {"target": "x.pth"}, "not both; only the draft may be given with a name"),
    ],
)
def test_a_mistake_is_one_line_before_any_weights_are_loaded(draft, options, message, monkeypatch):
    monkeypatch.setattr("sdvar.checkpoints.loading.fill", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=message) as caught:
        sdvar.load_pair("tiny", draft=draft, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", WEIGHT_KINDS)
def test_training_multiplies_by_the_numbers_of_decoding_and_passes_gradients_straight_through(kind):
    model = random_pair(dtype=torch.float32).draft.requires_grad_()
    run, trained = rounded(model, kind), rounded(model, kind, trained=True)
    one = torch.eye(model.width)
    for ours, theirs in zip(trained.blocks, run.blocks):
        for name in ("attn.mat_qkv", "attn.proj", "ffn.fc1"):
            numbers = ours.get_submodule(name).weight.t()
            assert torch.equal(theirs.get_submodule(name)(one, torch.zeros(numbers.shape[1])), numbers)
    trained.blocks[0].ffn.fc2.weight.square().sum().backward()
    weight = model.blocks[0].ffn.fc2.weight
    assert torch.equal(weight.grad, 2 * trained.blocks[0].ffn.fc2.weight) and not torch.equal(weight.grad, 2 * weight)
    assert trained.head is model.head and trained.state_dict().keys() < model.state_dict().keys()


def test_another_kind_of_model_has_no_such_draft():
    with pytest.raises(ValueError, match=r"draft: target:int8 is made of a sdvar\.VAR, and the target is of object"):
        sdvar.draft_of(object(), "target:int8")
    with pytest.raises(ValueError, match=r"got 'small\.pth'"):
        sdvar.draft_of(random_pair().target, "small.pth")
