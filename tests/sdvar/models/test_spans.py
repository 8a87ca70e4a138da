"""However the scales are cut into passes over the cache, the logits are those of one teacher-forced pass."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdvar.models.kv_cache import KVCache
from tests import reference
from tests.random_pairs import random_var
from tests.reference import MODELS


@st.composite
def cuts(draw, scales: int):
    inner = draw(st.sets(st.integers(1, scales - 1))) if scales > 1 else set()
    return [0, *sorted(inner), scales]


@pytest.mark.parametrize("name", MODELS)
def test_spans_equal_teacher_forcing(name):
    ref = reference.load(name)
    var, pyramid = ref.var, ref.var.pyramid
    ids = [t[:1] for t in pyramid.split(torch.from_numpy(ref.arrays["ids"]).long())]
    inputs = ref.vae.var_inputs(ids)
    labels = torch.tensor([1])
    expected = var(labels, inputs)
    conditioning = var.condition(labels)
    start = pyramid.tokens[0]

    @settings(max_examples=10 if name == "ten_scales" else 25, deadline=None, derandomize=True)
    @given(cuts(len(pyramid)))
    def run(bounds):
        cache, parts = var.new_cache(1), []
        for first, last in zip(bounds, bounds[1:]):
            positions = slice(max(pyramid.offsets[first] - start, 0), pyramid.offsets[last] - start)
            parts.append(var.forward_span(conditioning, inputs[:, positions], first, last, cache))
        torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-4, rtol=0)

    run()


def test_stale_keys_past_the_span_are_never_seen():
    """Truncation moves a counter only, so what lies behind it must not matter."""
    var = random_var((1, 2, 3), seed=0).double()
    labels, pyramid = torch.tensor([4]), var.pyramid
    inputs = torch.randn(1, pyramid.length - 1, var.latent_channels, dtype=torch.float64)
    clean, dirty = var.new_cache(1), var.new_cache(1)
    dirty.keys.fill_(7.0)
    dirty.values.fill_(-3.0)
    for first, last, positions in ((0, 1, slice(0, 0)), (1, 2, slice(0, 4))):
        conditioning = var.condition(labels)
        a = var.forward_span(conditioning, inputs[:, positions], first, last, clean)
        b = var.forward_span(conditioning, inputs[:, positions], first, last, dirty)
        assert torch.equal(a, b)


def test_rows_write_and_read_their_own_part_of_the_cache():
    cache = KVCache(depth=1, rows=4, heads=1, length=3, head_width=1, dtype=torch.float32, device=torch.device("cpu"))
    from sdvar.models.kv_cache import CacheWindow

    everything = torch.arange(4.0).view(4, 1, 1, 1)
    cache.layer(0).update(everything, everything, CacheWindow(None, 0, 0, 1))
    rows = torch.tensor([3, 1])
    new = torch.tensor([30.0, 10.0]).view(2, 1, 1, 1)
    keys, _ = cache.layer(0).update(new, new, CacheWindow(rows, 0, 1, 2))
    assert keys.flatten().tolist() == [3, 30, 1, 10]
    assert cache.keys[0, [1, 3], 0, 1, 0].tolist() == [10, 30]


def test_a_scale_sees_itself_whole_and_nothing_after_it():
    """A triangular mask inside a scale, or a look at later scales, would change these logits."""
    var = random_var((1, 2, 3), seed=1).double()
    labels, pyramid = torch.tensor([0]), var.pyramid
    inputs = torch.randn(1, pyramid.length - 1, var.latent_channels, dtype=torch.float64)
    before = var(labels, inputs)
    changed = inputs.clone()
    changed[:, 3] += 1  # the last token of scale 1
    after = var(labels, changed)
    assert torch.equal(before[:, :1], after[:, :1])
    assert (before[:, 1] != after[:, 1]).any(), "the first token of scale 1 must see its last"


def test_labels_are_dropped_in_training_only():
    var = random_var((1, 2), seed=0)
    var.drop_label = 1.0
    labels, null = torch.tensor([1, 2]), torch.full((2,), var.num_classes)
    inputs = torch.randn(2, 4, var.latent_channels)
    assert not torch.equal(var.eval()(labels, inputs), var(null, inputs))
    assert torch.equal(var.train()(labels, inputs), var.eval()(null, inputs))
