"""Improved precision and recall (Kynkäänniemi et al., 2019), by torch-fidelity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.intervals import of_share
from eval.metrics.metric import REFERENCE, Column, Metric, Result
from lightning_modules.run.names import BASELINE

if TYPE_CHECKING:
    from torch import Tensor

    from eval.metrics.features.extraction import Features

# Named in full because torch-fidelity drops a misspelt keyword silently and takes its default instead.
SETTINGS = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "save_cpu_ram": True, "verbose": False}
SUBSET_SEED = 2020
MOST_IMAGES = 10_000  # a matrix of all distances is sorted in memory: 0.4 GB for these


def compute(ours: Features, others: Mapping[str, Features]) -> Result:
    """Precision and recall against the reference if it has images, else against the baseline."""
    from torch_fidelity.metric_prc import prc_features_to_metric

    name = next((name for name in (REFERENCE, BASELINE) if name in others and others[name].images is not None), None)
    if name is None:
        return {}, ["no precision and recall: they compare with a reference's images, and there is no such reference"]
    other = others[name]
    least = SETTINGS["prc_neighborhood"] + 1
    fewest, most = sorted((ours.images, other.images))
    if fewest < least:
        return {}, [f"no precision and recall: they need {least} images, got {fewest}"]
    warnings = []
    if most > MOST_IMAGES:
        warnings.append(
            f"precision and recall: of {most:,} images a random subset of {MOST_IMAGES:,} is taken, so that their "
            "distances fit into memory"
        )
    if min(fewest, MOST_IMAGES) != min(most, MOST_IMAGES):
        warnings.append(
            f"precision and recall: {min(most, MOST_IMAGES):,} and {fewest:,} images have neighbourhoods of unequal "
            f"size; compare them only with values of as many images against the {name}"
        )
    measured = prc_features_to_metric(_subset(ours.of("prc")), _subset(other.of("prc")), **SETTINGS)
    return {
        "precision": measured["precision"],
        "precision_interval": of_share(measured["precision"], min(ours.images, MOST_IMAGES)),
        "recall": measured["recall"],
        "recall_interval": of_share(measured["recall"], min(other.images, MOST_IMAGES)),
        "precision_recall_against": name,
        "precision_recall_images": min(most, MOST_IMAGES),
    }, warnings


def _subset(features: Tensor) -> Tensor:
    """At most `MOST_IMAGES` rows, the same ones every time."""
    if len(features) <= MOST_IMAGES:
        return features
    chosen = np.random.RandomState(SUBSET_SEED).choice(len(features), MOST_IMAGES, replace=False)
    return features[np.sort(chosen)]


PRECISION_RECALL = Metric(
    name="prc",
    title="Precision and recall",
    help="precision and recall",
    needs="features",
    compute=compute,
    columns=(
        Column.share(
            "precision",
            "share of the images within the others' neighbourhoods (k = 3)",
            title="precision",
            decimals=4,
            better="higher",
            interval=True,
        ),
        Column.share(
            "recall",
            "share of the others within these images' neighbourhoods",
            title="recall",
            decimals=4,
            better="higher",
            interval=True,
        ),
        Column("precision_recall_against", "the other images", "string", choices=(BASELINE, REFERENCE)),
        Column.count("precision_recall_images", "most images taken of either set"),
    ),
    default=False,  # it sorts all distances: seconds per arm
)
