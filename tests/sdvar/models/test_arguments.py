"""What the models refuse, by name, before an index error deep inside does."""

import pytest
import torch

from tests.random_pairs import random_pair


@pytest.fixture(scope="module")
def pair():
    return random_pair(vocabulary=32)


@pytest.mark.parametrize("labels, inputs, error, words", [
    (torch.tensor([11]), (1, 29, 8), ValueError, "labels: expected values from 0 to 10, got 11"),
    (torch.tensor([-1]), (1, 29, 8), ValueError, "labels: expected values from 0 to 10, got -1"),
    (torch.tensor([1.0]), (1, 29, 8), TypeError, "labels: expected an int64 tensor, got torch.float32"),
    (torch.tensor(1), (1, 29, 8), ValueError, "labels: expected one dimension"),
    (torch.tensor([1]), (1, 30, 8), ValueError, r"inputs: expected shape \(1, 29, 8\).*got \(1, 30, 8\)"),
    (torch.tensor([1, 2]), (1, 29, 8), ValueError, r"inputs: expected shape \(2, 29, 8\)"),
])  # fmt: skip
def test_var(pair, labels, inputs, error, words):
    with pytest.raises(error, match=words):
        pair.target(labels, torch.zeros(inputs, dtype=torch.float64))


def test_the_null_class_is_legal(pair):
    assert pair.target(torch.tensor([10]), torch.zeros(1, 29, 8, dtype=torch.float64)).shape == (1, 30, 32)


@pytest.mark.parametrize("change, error, words", [
    (lambda t: t[:3], ValueError, "tokens: expected 4 token maps, one per scale, got 3"),
    (lambda t: [t[0], t[1][:, :3], t[2], t[3]], ValueError, r"tokens\[1\]: expected shape \(2, 4\)"),
    (lambda t: [t[0], t[1], t[2] + 32, t[3]], ValueError, r"tokens\[2\]: expected values from 0 to 31, got 32"),
    (lambda t: [t[0], t[1], t[2], t[3].int()], TypeError, r"tokens\[3\]: expected an int64 tensor, got torch.int32"),
])  # fmt: skip
def test_tokens(pair, change, error, words):
    tokens = [torch.zeros(2, count, dtype=torch.int64) for count in pair.pyramid.tokens]
    for method in (pair.tokenizer.decode, pair.tokenizer.var_inputs):
        with pytest.raises(error, match=words):
            method(change(tokens))


def test_images(pair):
    with pytest.raises(ValueError, match=r"images: expected shape \(B, 3, 8, 8\), got \(1, 3, 8, 9\)"):
        pair.tokenizer.encode(torch.zeros(1, 3, 8, 9))
