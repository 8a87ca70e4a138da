"""What a decode costs on a GPU besides its arithmetic, counted on a simulated one: budgets that only go down.

Ten scales, two layers. A decode is counted once the one before it has captured its graphs and tried its products.
"""

import pytest
import torch

import sdvar
from sdvar.decoding.strategies.rounds import Rounds
from sdvar.decoding.warmup import warm_up
from sdvar.models.running.cuda_graphs import no_captures
from tests.random_pairs import random_var
from tests.sdvar.kernels import on_simulated_cuda
from tests.simulated_cuda import moved

PYRAMID = (1, 1, 2, 2, 2, 3, 3, 3, 4, 4)
SAMPLING = sdvar.Sampling(top_k=20, top_p=0.9)


@pytest.fixture(scope="module")
def pair():
    """A draft and a target of two layers that often agree."""
    return make_pair(torch.float64)


@pytest.fixture(scope="module")
def single_pair():
    """The same in float32, in which the kernels run."""
    return make_pair(torch.float32)


def make_pair(dtype):
    draft, target = (random_var(PYRAMID, seed=2, depth=2, width=16).double() for _ in range(2))
    with torch.no_grad():
        draft.head.weight += 0.02 * torch.randn(draft.head.weight.shape, dtype=torch.float64)
    tokenizer = sdvar.VQVAE(PYRAMID, target.codebook_size, 8, base_channels=32, channel_multipliers=(1,), res_blocks=1)
    return sdvar.ModelPair(draft.to(dtype), target.to(dtype), tokenizer.to(dtype))


def counted(cuda, pair, batch, strategy, images=False, graphs=True, groups=()):
    """The result of a decode after the warm-up; its events are left in ``cuda``, its rounds in ``groups``."""
    sdvar.Engine(graphs=graphs).apply(moved(pair, "cuda:0"))
    labels = [i % 10 for i in range(batch)]

    def decode(number):
        return sdvar.decode(pair, labels, [i + 100 * number for i in range(batch)], strategy, SAMPLING, images)

    warm_up(decode, (pair.draft, pair.target))
    cuda.events.clear()
    if groups:
        groups.clear()
    with no_captures():
        return decode(99)


@pytest.fixture
def groups(monkeypatch):
    """The images of each group that has drafted a round."""
    made, speculate = [], Rounds._speculate

    def noted(rounds, images, *rest):
        made.append(images)
        speculate(rounds, images, *rest)

    monkeypatch.setattr(Rounds, "_speculate", noted)
    return made


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_a_baseline_waits_once_at_its_end(cuda, pair, batch):
    counted(cuda, pair, batch, sdvar.Baseline())
    assert cuda.count("wait") == 1  # whether all logits were finite
    assert cuda.count("waiting copy") == 0
    assert cuda.count("copy") == 1  # the seeds
    assert (cuda.count("capture"), cuda.count("replay")) == (0, 9)
    assert cuda.count("launch") <= 880


@pytest.mark.parametrize(
    ("batch", "launched", "copied"),
    [
        (1, 1400, 4),
        pytest.param(8, 2400, 24, marks=pytest.mark.proof),
        pytest.param(64, 4000, 80, marks=pytest.mark.proof),
    ],
)
def test_a_speculative_decode_waits_once_a_round(cuda, pair, groups, batch, launched, copied):
    """A round is that of a group of images which share their next scale and what is cached."""
    counted(cuda, pair, batch, sdvar.Speculative(2), groups=groups)
    rounds = sum(place.startswith("strategies/rounds.py") for place, _ in cuda.places("wait").elements())
    assert rounds == len(groups) > 0
    assert cuda.count("wait") == rounds + 1  # whether all logits were finite
    assert (cuda.count("waiting copy"), cuda.count("capture")) == (0, 0)
    assert cuda.count("copy") <= copied
    assert cuda.count("launch") <= launched


@pytest.mark.parametrize(
    ("batch", "strategy", "launched"),
    [
        (1, sdvar.Baseline(), 113),
        pytest.param(1, sdvar.Speculative(2), 149, marks=pytest.mark.proof),
        pytest.param(64, sdvar.Baseline(), 132, marks=pytest.mark.proof),
        pytest.param(64, sdvar.Speculative(2), 707, marks=pytest.mark.proof),
    ],
    ids=repr,
)
def test_launches_outside_of_graphs_by_the_projects_kernels(cuda, single_pair, monkeypatch, batch, strategy, launched):
    pytest.importorskip("triton")
    monkeypatch.setattr("sdvar.decoding.stepper.fused_pick", lambda *of_logits: on_simulated_cuda.pick)
    monkeypatch.setattr("sdvar.models.transformer.fused_blocks", lambda *of_blocks: on_simulated_cuda.StandIn())
    monkeypatch.setattr("sdvar.models.quantizer.fused_f_hat", lambda *of_f_hat: on_simulated_cuda.added)
    counted(cuda, single_pair, batch, strategy)
    assert (cuda.count("waiting copy"), cuda.count("capture")) == (0, 0)
    assert cuda.count("launch") <= launched


def test_no_product_is_tried_after_the_warm_up(cuda, pair):
    counted(cuda, pair, 8, sdvar.Baseline(), graphs=False)
    assert not [place for place, _ in cuda.places("wait", "waiting copy") if place.startswith("models/")]


def test_images_cost_no_wait(cuda, pair):
    counted(cuda, pair, 2, sdvar.Baseline(), images=True)
    assert (cuda.count("wait"), cuda.count("waiting copy")) == (1, 0)


@pytest.mark.parametrize("span", [(0, 1), (4, 5), (3, 7), (0, 10)])
def test_launches_of_a_pass_are_about_what_its_cost_says(cuda, pair, span):
    """By that it is decided whether a graph gains."""
    model = moved(pair, "cuda:0").target
    tokens = pair.pyramid.span_tokens(max(span[0], 1), max(span[1], 1))
    inputs = torch.zeros(2, tokens, 8, dtype=torch.float64, device="cuda:0")
    with torch.no_grad():
        conditioning = model.condition(torch.tensor([1, 2]).to("cuda:0"))
        for _ in range(2):
            cuda.events.clear()
            model.forward_span(conditioning, inputs, *span, model.new_cache(2))
    assert model.cost().launches(*span) == pytest.approx(cuda.count("launch"), rel=0.15)
