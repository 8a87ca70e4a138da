"""eval.metrics.quality.duplicates: copies are counted, independent images are none."""

import pytest
import torch

from eval.metrics.features.extraction import Features
from eval.metrics.features.extractors import BUNDLED_EXTRACTOR
from eval.metrics.quality import duplicates
from eval.metrics.quality.duplicates import NEAR, compute, nearest

COUNT, WIDTH = 400, 8


def drawn(seed, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return 1000 + spread * torch.randn(COUNT, WIDTH, generator=generator)


def features(values):
    return Features(BUNDLED_EXTRACTOR, "", {"128": values}, None, len(values), (32, 32))


def test_independent_images_are_no_duplicates():
    values, warnings = compute(features(drawn(0)), {"baseline": features(drawn(1)), "reference": features(drawn(2))})
    assert warnings == [] and (values["duplicate_images"], values["copies_of_reference"]) == (0, 0)
    assert values["nearest_neighbour_relative_to_baseline"] == pytest.approx(1, abs=0.1)


def test_copies_are_counted_on_both_sides_and_near_ones_too():
    ours, baseline = drawn(0), drawn(1)
    ours[100:110] = ours[:10]
    ours[200:205] = ours[10:15] + 0.02 * NEAR
    reference = drawn(2)
    reference[:7] = ours[300:307]
    values, warnings = compute(features(ours), {"baseline": features(baseline), "reference": features(reference)})
    expected = "7.5% of the images are near-copies of another, of the baseline's 0.0%: the images are less varied"
    assert warnings == [expected]
    assert values["duplicate_images"] == pytest.approx(30 / COUNT)
    assert values["copies_of_reference"] == pytest.approx(7 / COUNT)
    low, high = values["duplicate_images_interval"]
    assert low < 30 / COUNT < high


def test_collapse_to_few_modes_is_seen():
    """Each image is one of ten with a little noise."""
    ours = drawn(0)[torch.arange(COUNT) % 10] + 0.01 * (drawn(3) - 1000)
    values, _ = compute(features(ours), {"baseline": features(drawn(1))})
    assert values["duplicate_images"] == 1 and values["nearest_neighbour_relative_to_baseline"] < 0.05
    assert compute(features(ours), {})[0]["duplicate_images"] == 0  # by its own scale alone nothing is near
    same = drawn(0)[torch.zeros(COUNT, dtype=torch.long)]
    assert compute(features(same), {})[0]["duplicate_images"] == 1


def test_the_nearest_of_blocks_is_the_nearest_of_all(monkeypatch):
    ours, others = drawn(0), drawn(1)[:33]
    whole = (ours[:, None].double() - ours.double()).square().sum(-1).sqrt()
    whole.fill_diagonal_(torch.inf)
    monkeypatch.setattr(duplicates, "ROWS", 7)
    assert nearest(ours) == pytest.approx(whole.amin(1).float(), rel=1e-3)
    assert nearest(ours, others) == pytest.approx(torch.cdist(ours.double(), others.double()).amin(1).float(), rel=1e-3)


def test_one_image_has_no_neighbour():
    assert compute(features(drawn(0)[:1]), {}) == ({}, ["no duplicates: they need 2 images, got 1"])
