"""eval.metrics.pairing.similarity: the two images of a seed are compared, and no others."""

import dataclasses

import pytest
import torch

from eval.metrics.features.extraction import Asked, Features
from eval.metrics.features.extractors import BUNDLED_EXTRACTOR
from eval.metrics.pairing.similarity import compute

ASKED = Asked((0, 1, 2), (7, 8, 9), 10)


def features(values, asked=ASKED):
    return Features(BUNDLED_EXTRACTOR, "", {"128": torch.tensor(values)}, None, len(values), (32, 32), asked)


def test_the_mean_cosine_of_the_images_of_a_seed():
    ours = features([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    baseline = features([[3.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
    values, _ = compute(ours, {"baseline": baseline})
    assert values["feature_cosine_mean"] == pytest.approx((1 + 0.5**0.5 - 1) / 3)
    low, high = values["feature_cosine_mean_interval"]
    assert low < values["feature_cosine_mean"] < high


def test_images_of_other_seeds_are_not_compared():
    ours = features([[1.0, 0.0]] * 3)
    other = dataclasses.replace(ours, asked=Asked((0, 1, 2), (1, 2, 3), 10))
    for others in ({"baseline": other}, {"baseline": dataclasses.replace(ours, asked=None)}, {}):
        assert compute(ours, others) == ({}, [])
