"""The bundled pair: what ships is what is listed, and decoding it is exact."""

import hashlib

import pytest
import torch

import sdvar
from sdvar.checkpoints import BUNDLED
from sdvar.decoding.state import DecodeState
from tests.paths import ROOT
from tests.random_pairs import same_tokens

REPO_LIMIT = 25e6  # bytes of weights
SAMPLING = sdvar.Sampling(cfg=1.5)


@pytest.fixture(scope="module")
def tiny():
    return sdvar.load_pair("tiny", dtype=torch.float64)


def images(count):
    return [i % 10 for i in range(count)], list(range(count))


@pytest.mark.parametrize(
    "folder, names",
    [
        (BUNDLED / "tiny", {"draft.safetensors", "tail.safetensors", "target.safetensors", "tokenizer.safetensors"}),
        (
            ROOT / "eval" / "bundled",
            {"feature_net.safetensors", "fashion_mnist_test.parquet", "reference_features.safetensors"},
        ),
    ],
    ids=["tiny", "eval"],
)
def test_files_are_the_listed_ones(folder, names):
    listed = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {file.name: file for file in folder.iterdir() if file.name != "SHA256SUMS"}
    assert set(files) == names
    assert {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()} == listed
    assert sum(file.stat().st_size for file in files.values()) < REPO_LIMIT


def test_sizes(tiny):
    assert tiny.pyramid.patch_nums == (1, 2, 3, 4, 6, 8)
    assert tiny.num_classes == 10
    assert tiny.target.depth >= 8
    assert sum(p.numel() for p in tiny.target.parameters()) >= 3e6
    assert tiny.tokenizer.image_size == 32


STRATEGIES = [
    *(sdvar.Speculative(gamma) for gamma in (1, 2, 3, 5, 6)),
    *(sdvar.Speculative(gamma, redraft="target") for gamma in (1, 2, 3, 5, 6)),
    *(sdvar.Speculative(schedule, redraft=redraft)
      for schedule in (sdvar.Adaptive(2, 1, 5), sdvar.TokenBudget(29), sdvar.Spans((3, 2, 1)))
      for redraft in ("draft", "target")),
]  # fmt: skip


def check_coupled(pair, count, batch, strategies=STRATEGIES):
    for start in range(0, count, batch):
        labels, seeds = (values[start : start + batch] for values in images(count))
        baseline = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), SAMPLING, images=False)
        for strategy in strategies:
            ours = sdvar.decode(pair, labels, seeds, strategy, SAMPLING, images=False)
            assert same_tokens(ours, baseline), strategy


def test_coupled_equals_baseline_in_float64(tiny):
    """Every third strategy on three of 12 images; the proof takes all, on up to 192 each."""
    labels, seeds = images(12)
    baseline = sdvar.decode(tiny, labels, seeds, sdvar.Baseline(), SAMPLING, images=False)
    for turn, strategy in enumerate(STRATEGIES[::3]):
        three = slice(turn % 4 * 3, turn % 4 * 3 + 3)
        ours = sdvar.decode(tiny, labels[three], seeds[three], strategy, SAMPLING, images=False)
        assert all(torch.equal(a, b[three]) for a, b in zip(ours.tokens, baseline.tokens)), strategy


@pytest.mark.proof
def test_coupled_equals_baseline_in_float64_one_by_one(tiny):
    check_coupled(tiny, 5, 1, [sdvar.Speculative(2), sdvar.Speculative(3, redraft="target")])


@pytest.mark.proof
@pytest.mark.parametrize("batch, count", [(1, 40), (7, 98), (64, 192)])
def test_coupled_equals_baseline_in_float64_for_many_images(tiny, batch, count):
    check_coupled(tiny, count, batch)


def agreement(pair, sampling):
    """The share of equal picks under the same noise, on prefixes that the target has sampled."""
    labels, seeds = images(50)
    baseline = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), sampling, images=False)
    state = DecodeState(pair, torch.tensor(labels), torch.tensor(seeds), sampling)
    inputs, everyone = pair.tokenizer.var_inputs(baseline.tokens), range(50)
    logits = state.stepper("draft").all_logits(inputs)
    picks = torch.cat([state.pick(everyone, k, part) for k, part in enumerate(logits)], dim=1)
    return (picks == torch.cat(baseline.tokens, dim=1)).double().mean().item()


@torch.no_grad()
def test_drafts_agree_with_the_target():
    """The bar of docs/bundled-pair.md, and that of the draft for its tail, in half the passes."""
    pair, default = sdvar.load_pair("tiny"), sdvar.Sampling(cfg=1.5, top_k=60)
    assert agreement(pair, SAMPLING) >= 0.58
    tail = sdvar.ModelPair(sdvar.load_var("tiny-tail"), pair.target, pair.tokenizer)
    assert tail.draft.guided_scales(default) == 0 < tail.target.guided_scales(default)
    assert agreement(tail, default) >= 0.72


def test_lossless_decoding_saves_target_calls():
    pair, (labels, seeds) = sdvar.load_pair("tiny"), images(20)
    stats = sdvar.decode(pair, labels, seeds, sdvar.Speculative(2), SAMPLING, images=False).stats
    assert stats.target_calls.double().mean() < 5  # of 6


def test_images_look_like_their_class():
    """Most samples are classified as their label by the net that scores them."""
    from safetensors.torch import load_file

    from lightning_modules.training.feature_net import FeatureNet

    net = FeatureNet().eval()
    net.load_state_dict(load_file(ROOT / "eval" / "bundled" / "feature_net.safetensors"))
    labels, seeds = images(50)
    result = sdvar.decode(sdvar.load_pair("tiny"), labels, seeds, sdvar.Baseline(), sdvar.Sampling(cfg=1.5, top_k=60))
    with torch.no_grad():
        _, logits = net(result.images * 2 - 1)
    assert (logits.argmax(1) == torch.tensor(labels)).float().mean() > 0.85
