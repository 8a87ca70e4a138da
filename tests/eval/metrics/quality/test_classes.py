"""eval.metrics.quality.classes: accuracy is of the asked classes, and the worst ones stand in the report."""

import dataclasses

import pytest
import torch

from eval.metrics.features.extraction import Asked, Features
from eval.metrics.features.extractors import BUNDLED_EXTRACTOR
from eval.metrics.features.published import INCEPTION
from eval.metrics.quality.classes import compute, inception_outputs
from eval.report import classes as section
from eval.report.run import Run
from lightning_modules.data.class_names import imagenet_wnids
from tests.eval.small_networks import COLOURS, register


def features(found, labels, num_classes=10, network=BUNDLED_EXTRACTOR, width=10):
    """Features of images that the classifier takes for the classes `found`."""
    logits = torch.nn.functional.one_hot(torch.tensor(found), width).float()
    asked = Asked(tuple(labels), tuple(range(len(labels))), num_classes)
    layer = "logits" if network == BUNDLED_EXTRACTOR else "logits_unbiased"
    return Features(network, "", {layer: logits}, None, len(labels), (32, 32), asked)


def test_accuracy_by_class_and_the_share_of_classes_covered():
    values, warnings = compute(features([0, 0, 1, 2, 2, 9], [0, 0, 0, 2, 3, 3]), {})
    assert warnings == []
    assert values["class_accuracy"] == pytest.approx(3 / 6)
    assert values["class_accuracy_per_class"] == [pytest.approx(2 / 3), None, 1, 0, *[None] * 6]
    assert values["classes_covered"] == pytest.approx(2 / 3)
    low, high = values["class_accuracy_interval"]
    assert 0 < low < 0.5 < high < 1


def test_an_arm_that_loses_classes_is_warned_of():
    right, wrong = list(range(10)) * 20, [0] * 200
    baseline = features(right, right)
    values, warnings = compute(features(wrong, right), {"baseline": baseline})
    assert warnings == ["10.0% of the images are recognised as the asked class, of the baseline's 100.0%"]
    assert values["classes_covered"] == pytest.approx(0.1)
    assert compute(baseline, {"baseline": baseline})[1] == []


def test_the_null_class_is_none():
    values, _ = compute(features([0, 1, 3], [0, 10, 10]), {})
    assert values["class_accuracy"] == 1 and values["class_accuracy_per_class"] == [1, *[None] * 9]
    values, warnings = compute(features([0, 1], [10, 10]), {})
    assert values == {} and warnings == ["no class accuracy: no image was asked to be of a class"]


def test_part_of_the_images_has_its_own_labels():
    whole = features([0, 0, 1, 2, 2, 9], [0, 0, 0, 2, 3, 3])
    part = dataclasses.replace(whole, layers={"logits": whole.layers["logits"], "128": torch.rand(6, 3)}).part(3, 6)
    assert compute(part, {})[0]["class_accuracy"] == pytest.approx(1 / 3)


def test_other_classes_than_the_networks_give_no_accuracy():
    values, warnings = compute(features([0, 1], [0, 1], num_classes=5), {})
    assert values == {} and warnings == [
        f"no class accuracy ({BUNDLED_EXTRACTOR}): it tells 10 classes apart, the run has 5"
    ]
    register()
    values, warnings = compute(dataclasses.replace(features([0], [0]), feature_extractor=COLOURS), {})
    assert values == {} and warnings == [f"no class accuracy ({COLOURS}): the network tells no classes apart"]
    assert compute(dataclasses.replace(features([0], [0]), asked=None), {}) == ({}, [])


def test_inceptions_outputs_are_in_the_order_of_the_challenges_ids():
    """Tench is 449 and goldfish 450 in the label map beside the original weights; kit fox is the first."""
    outputs, wnids = inception_outputs(), imagenet_wnids()
    assert sorted(outputs) == list(range(1, 1001))
    assert [outputs[wnids[wnid]] for wnid in ("n02119789", "n01440764", "n01443537")] == [1, 449, 450]
    labels = [0, 1, wnids["n02119789"]]
    values, _ = compute(features([449, 450, 2], labels, num_classes=1000, network=INCEPTION, width=1008), {})
    assert values["class_accuracy"] == pytest.approx(2 / 3)


def test_the_worst_classes_are_in_the_report():
    arms = {
        "baseline": {"feature_extractor": "x", section.KEY: [1, 0.5, None]},
        "lossy": {"feature_extractor": "x", section.KEY: [0.25, 0.75, None]},
        "other": {"feature_extractor": "x"},
    }
    run = Run(None, {"arms": arms, "class_names": ["Disc", "Ring", "Bar"]}, "", {})
    found = section.section(run)
    assert found["network"] == "x" and found["compared"]
    assert found["rows"] == [
        ["baseline", "Ring", "50 %", ""], ["lossy", "Disc", "25 %", "100 %"], ["lossy", "Ring", "75 %", "50 %"],
    ]  # fmt: skip
    further = {name: {"feature_extractor": "dino", "networks": {"x": arm}} for name, arm in arms.items()}
    assert section.section(dataclasses.replace(run, metrics={"arms": further}))["rows"][0][1] == "class 1"
    assert section.section(Run(None, {"arms": {"baseline": {"feature_extractor": "x"}}}, "", {})) is None
