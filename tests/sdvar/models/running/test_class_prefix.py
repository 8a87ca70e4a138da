"""What a model makes of a class is computed once, is what a pass makes, and is forgotten when the weights change."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import sdvar
from sdvar.models.running import class_prefix
from tests.random_pairs import random_pair, same_tokens

LABELS, SEEDS = [0, 2, 2, 1], [5, 6, 7, 8]


def decode(pair, labels=LABELS, **options):
    return sdvar.decode(pair, labels, SEEDS[: len(labels)], sdvar.Baseline(), images=False, **options)


@pytest.mark.parametrize("which", ["target", "draft"])  # each block's own AdaLN, and one of all blocks
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_is_what_a_pass_over_the_first_scale_makes(which, dtype):
    model = getattr(random_pair(dtype=dtype), which)
    prefix, rows = model.prefixes.rows([1, 3, 1])
    with torch.no_grad():
        conditioning, cache = model.condition(torch.tensor([1, 3, 1])), model.new_cache(3)
        logits = model.forward_span(conditioning, torch.empty(3, 0, model.latent_channels), 0, 1, cache)
    assert rows.tolist() == [0, 1, 0]
    assert torch.equal(prefix.logits[rows], logits)
    assert all(torch.equal(kept[rows], made) for kept, made in zip(prefix.conditioning, conditioning, strict=True))
    first = slice(0, model.pyramid.tokens[0])
    ours, theirs = prefix.cache.read(rows.tolist(), first), cache.read([0, 1, 2], first)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_class_is_computed_once():
    pair = random_pair()
    decode(pair)
    decode(pair, [1, 0])
    prefixes = pair.target.prefixes
    assert prefixes.computed == 4  # three classes and the null class
    assert prefixes.seconds == 0  # they are part of the decodes' time
    prefixes.ready([0, 1])
    assert prefixes.computed == 4
    assert pair.draft.prefixes.computed == 0  # the baseline does not ask it
    decode(pair, sampling=sdvar.Sampling(cfg=0))
    assert prefixes.computed == 4


def test_without_guidance_no_null_class_is_computed():
    pair = random_pair()
    decode(pair, [2], sampling=sdvar.Sampling(cfg=0))
    assert pair.target.prefixes.computed == 1


def test_the_bytes_kept_are_those_of_the_cost_model():
    model = random_pair().target
    model.prefixes.ready(range(3))
    assert model.prefixes.nbytes == 3 * model.cost().class_prefix_bytes()


@pytest.mark.parametrize("classes_kept", [0, 1, 2])
def test_no_more_is_made_ready_than_may_be_kept(classes_kept):
    model = random_pair().target
    prefixes, each = model.prefixes, model.cost().class_prefix_bytes()
    prefixes.most_bytes = classes_kept * each + each // 2
    prefixes.ready(range(5))
    assert (prefixes.computed, prefixes.nbytes) == (classes_kept, classes_kept * each)


def test_the_limit_follows_the_dtype():
    model = random_pair(dtype=torch.float32).target
    prefixes = model.prefixes
    prefixes.most_bytes = 3 * model.cost().class_prefix_bytes()
    prefixes.ready(range(9))
    model.double()
    prefixes.ready(range(9))
    assert 0 < prefixes.nbytes <= prefixes.most_bytes


def test_many_classes_are_computed_in_parts(monkeypatch):
    monkeypatch.setattr(class_prefix, "TOGETHER", 3)
    model, other = random_pair().target, random_pair().target
    (prefix, rows), (expected, others) = model.prefixes.rows(range(8)), other.prefixes.rows(range(8)[::-1])
    assert torch.equal(prefix.logits[rows], expected.logits[others.flip(0)])


def test_only_computing_takes_seconds():
    prefixes = random_pair().target.prefixes
    prefixes.ready([0, 1])
    taken = prefixes.seconds
    prefixes.ready([1, 0])
    assert prefixes.seconds == taken > 0


@pytest.mark.parametrize("classes_kept", [0, 2, 3])
def test_a_limit_changes_memory_and_no_token(classes_kept):
    pair, free = random_pair(), random_pair()
    prefixes, each = pair.target.prefixes, pair.target.cost().class_prefix_bytes()
    prefixes.most_bytes = classes_kept * each + each // 2
    for labels in ([0, 1], [2], [1], [3, 2], [0, 1, 2, 3]):
        assert same_tokens(decode(pair, labels), decode(free, labels))
        assert prefixes.nbytes <= prefixes.most_bytes


def test_what_was_used_longest_ago_is_dropped():
    model = random_pair().target
    prefixes = model.prefixes
    prefixes.most_bytes = 3 * model.cost().class_prefix_bytes()
    for classes in ([0], [1], [2], [0], [3]):  # 1 goes
        prefixes.rows(classes)
    assert prefixes.computed == 4
    prefixes.ready([0, 2, 3])
    assert prefixes.computed == 4
    prefixes.ready([1])
    assert prefixes.computed == 5


def change_in_place(model):
    with torch.no_grad():
        model.class_emb.weight.mul_(2)


def load_others(model):
    state = model.state_dict().items()
    others = {key: value * 1.5 if value.is_floating_point() else value for key, value in state}
    model.load_state_dict(others, assign=True)


def replace_data(model):
    model.head.weight.data = model.head.weight.data.clone() * 2


def round_trip(model):
    model.to(torch.bfloat16).to(torch.float32)


@pytest.mark.parametrize("change", [change_in_place, load_others, replace_data, round_trip])
def test_other_weights_are_seen(change):
    """Fails if a decode goes on with what the old weights made of the class."""
    pair = random_pair(dtype=torch.float32)
    decode(pair)
    change(pair.target)
    fresh = random_pair(dtype=torch.float32)
    fresh.target.load_state_dict(pair.target.state_dict())
    assert same_tokens(decode(pair), decode(fresh))
    assert pair.target.prefixes.computed == 8


def test_copies_compute_their_own():
    model = random_pair().target
    model.prefixes.ready([0, 1])
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.prefixes.model is other and other.prefixes.nbytes == 0


def test_prefixes_made_in_inference_mode_serve_outside_of_it():
    pair, other = random_pair(), random_pair()
    with torch.inference_mode():
        decode(pair, [0])
    assert same_tokens(decode(pair), decode(other))
    with torch.inference_mode():
        assert same_tokens(decode(pair, [3, 1]), decode(other, [3, 1]))
