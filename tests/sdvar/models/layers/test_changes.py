"""Models follow changes of their weights that torch does not count."""

import copy
import weakref

import numpy as np
import pytest
import torch

import sdvar
from sdvar.models.layers import linear, packing
from tests.random_pairs import random_pair, same_tokens

WHERE = pytest.mark.parametrize("where", ["inference tensor", "data", "NumPy view"])


def change(weight, where, number=...):
    """To zeros, or one number alone, as torch does not count it."""
    version = None if weight.is_inference() else weight._version
    if where == "inference tensor":
        with torch.inference_mode():
            weight[number] = 0
    elif where == "data":
        weight.data[number] = 0
    else:
        numbers = torch.ones(weight.shape)
        numbers[number] = 0
        array = weight.detach().view(torch.int16).numpy()
        array *= numbers.repeat_interleave(weight.itemsize // 2, -1).numpy().astype("int16")
    assert weight.is_inference() if version is None else weight._version == version


@torch.no_grad()
@WHERE
def test_a_change_that_torch_does_not_count_is_seen_or_the_copy_refreshed(monkeypatch, where):
    """On any CPU: a plain copy and a plain product replace oneDNN's two functions."""
    monkeypatch.setattr(linear, "onednn_dtypes", lambda: {torch.bfloat16})
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", lambda weight, rows: weight.clone())
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda x, w, b, *_: torch.nn.functional.linear(x, w, b))
    with torch.inference_mode(where == "inference tensor"):
        model = torch.nn.Sequential(linear.Linear(64, 32, packed=True)).bfloat16()
    x, weight = torch.randn(5, 64).bfloat16(), model[0].weight

    def follows():
        return torch.equal(model(x), torch.nn.functional.linear(x, weight, model[0].bias))

    assert follows() and model[0].copy_bytes == weight.nbytes
    change(weight, where, (3, 5))  # which is not of the sample
    assert not weight[3, 5] and not follows()
    packing.refresh(model)
    assert model[0].copy_bytes == 0 and follows()
    change(weight, where)
    assert not weight.any() and follows()


@WHERE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decoding_follows_a_change_that_torch_does_not_count(where, dtype):
    with torch.inference_mode(where == "inference tensor"):
        pair = random_pair(dtype=dtype)
    before = sdvar.decode(pair, [1, 2], [4, 5], sdvar.Baseline())
    for weight in (pair.target.class_emb.weight, pair.target.blocks[0].ffn.fc1.weight):
        change(weight, where)
    after = sdvar.decode(pair, [1, 2], [4, 5], sdvar.Baseline())
    fresh = sdvar.decode(copy.deepcopy(pair), [1, 2], [4, 5], sdvar.Baseline())
    assert same_tokens(after, fresh) and not same_tokens(after, before)


def test_weights_that_were_converted_are_not_kept():
    pair = random_pair(dtype=torch.float32)
    numbers = np.random.default_rng(0).standard_normal(pair.target.class_emb.weight.shape, dtype=np.float32)
    pair.target.class_emb.weight.data = torch.from_numpy(numbers)
    sdvar.decode(pair, [1], [4], sdvar.Baseline())
    kept = weakref.ref(numbers)
    del numbers
    assert kept() is not None  # by the weights
    pair.target.double()
    assert kept() is None
