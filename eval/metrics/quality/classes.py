"""Do the images show the classes that were asked for? By the classifier among the feature networks."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING

from eval.metrics.features.networks import has_classes
from eval.metrics.features.published import INCEPTION
from eval.metrics.intervals import of_share
from eval.metrics.metric import Column, Metric, Result
from lightning_modules.run.names import BASELINE

if TYPE_CHECKING:
    from torch import Tensor

    from eval.metrics.features.extraction import Features


def compute(ours: Features, others: Mapping[str, Features]) -> Result:
    """Shares of images and of classes that the network recognises, with a warning where the baseline has more."""
    values, warnings = _measure(ours)
    base = _measure(others[BASELINE])[0] if values and BASELINE in others else {}
    if base and values["class_accuracy_interval"][1] < base["class_accuracy_interval"][0]:
        warnings.append(
            f"{values['class_accuracy']:.1%} of the images are recognised as the asked class, of the baseline's "
            f"{base['class_accuracy']:.1%}"
        )
    return values, warnings


def _measure(ours: Features) -> Result:
    import torch

    network, asked = ours.feature_extractor, ours.asked
    if asked is None:
        return {}, []
    if not has_classes(network):
        return {}, [f"no class accuracy ({network}): the network tells no classes apart"]
    scores = _scores(ours, asked.num_classes)
    if scores is None:
        width = ours.of("isc").shape[1]
        return {}, [
            f"no class accuracy ({network}): it tells {width:,} classes apart, the run has {asked.num_classes:,}"
        ]
    labels = torch.as_tensor(asked.labels)
    of_class = labels < asked.num_classes  # the null class is none
    right = (scores.argmax(1).cpu() == labels)[of_class].double()
    counts = labels[of_class].bincount(minlength=asked.num_classes)
    found = labels[of_class].bincount(right, minlength=asked.num_classes)
    total = int(counts.sum())
    if not total:
        return {}, ["no class accuracy: no image was asked to be of a class"]
    accuracy = float(right.mean())
    return {
        "class_accuracy": accuracy,
        "class_accuracy_interval": of_share(accuracy, total),
        "classes_covered": int((found > 0).sum()) / int((counts > 0).sum()),
        "class_accuracy_per_class": [
            hits / count if count else None for hits, count in zip(found.tolist(), counts.tolist())
        ],
    }, []


def _scores(features: Features, num_classes: int) -> Tensor | None:
    """Scores (N, K) of the run's classes; None where the network knows others."""
    from lightning_modules.data.class_names import IMAGENET_CLASSES

    scores = features.of("isc")
    if features.feature_extractor == INCEPTION and num_classes == IMAGENET_CLASSES:
        return scores[:, inception_outputs()]
    return scores if scores.shape[1] == num_classes else None


@functools.cache
def inception_outputs() -> list[int]:
    """The output of the original Inception network for each ImageNet label.

    It has 1,008 outputs. Output n, from 1 to 1,000, is the class with the ILSVRC2012_ID n; the WordNet ids of the file
    are in that order, which is a fact about ImageNet. Labels go by the ascending WordNet id.
    """
    from lightning_modules.data.class_names import imagenet_wnids

    ids = resources.files(__package__).joinpath("inception_classes.txt").read_text(encoding="ascii").split()
    outputs = {wnid: output for output, wnid in enumerate(ids, start=1)}
    return [outputs[wnid] for wnid in imagenet_wnids()]


CLASSES = Metric(
    name="classes",
    title="Classes recognised",
    help="share of images that a classifier takes for the asked class",
    needs="features",
    compute=compute,
    columns=(
        Column.share(
            "class_accuracy",
            "share of images whose class, by the feature network's classifier, is the asked one",
            title="class accuracy",
            decimals=3,
            better="higher",
            interval=True,
        ),
        Column.share(
            "classes_covered",
            "share of the asked classes of which at least one image is recognised",
            title="classes covered",
            decimals=3,
            better="higher",
        ),
        Column.share(
            "class_accuracy_per_class",
            "the accuracy by class; null for a class that was not asked for",
            dimensions=1,
            nullable=True,
        ),
    ),
)
