"""Inception Score, by torch-fidelity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from eval.metrics.features.networks import has_classes
from eval.metrics.intervals import around, standard_error
from eval.metrics.metric import Column, Metric, Result

if TYPE_CHECKING:
    import numpy as np

    from eval.metrics.features.extraction import Features

# Named in full because torch-fidelity drops a misspelt keyword silently and takes its default instead.
SETTINGS = {"isc_splits": 10, "samples_shuffle": True, "rng_seed": 2020, "verbose": False}
IMAGES_PER_SPLIT = 10  # fewer, and there are fewer splits
ENOUGH = 4  # images of each class in each split below which the score reads low


def compute(ours: Features, others: Mapping[str, Features]) -> Result:
    """Inception Score of the images; the others play no part."""
    from torch_fidelity.metric_isc import isc_featuresdict_to_metric

    score = f"Inception Score ({ours.feature_extractor})"
    if not has_classes(ours.feature_extractor):
        return {}, [f"no {score}: the network tells no classes apart"]
    classes = ours.of("isc").shape[1]
    splits = min(SETTINGS["isc_splits"], ours.images // IMAGES_PER_SPLIT)
    if splits == 0:
        return {}, [f"no {score}: it needs {IMAGES_PER_SPLIT} images, got {ours.images}"]
    warnings = []
    if ours.images < ENOUGH * splits * classes:
        fewer = f" instead of {SETTINGS['isc_splits']}" if splits < SETTINGS["isc_splits"] else ""
        warnings.append(
            f"{score} reads low: {ours.images:,} images in {splits} split{'s' if splits > 1 else ''}{fewer} are "
            f"fewer than {ENOUGH} for each of {classes:,} classes"
        )
    measured = isc_featuresdict_to_metric({"isc": ours.of("isc")}, "isc", **SETTINGS | {"isc_splits": splits})
    key, value = "inception_score_mean", measured["inception_score_mean"]
    error = value * standard_error(_divergences(ours))
    return measured | {f"{key}_interval": around(value, error), "inception_score_splits": splits}, warnings


def _divergences(ours: Features) -> np.ndarray:
    """Of each image's class probabilities from their mean, in nats: its influence on the score's logarithm."""
    log_p = ours.of("isc").double().log_softmax(1)
    p = log_p.exp()
    return (p * (log_p - p.mean(0).log())).sum(1).cpu().numpy()


INCEPTION_SCORE = Metric(
    name="is",
    title="Inception Score",
    help="Inception Score",
    needs="features",
    compute=compute,
    columns=(
        Column(
            "inception_score_mean",
            "mean over splits",
            title="Inception Score",
            terminal=True,
            decimals=2,
            spread="inception_score_std",
            better="higher",
            minimum=1,
            interval=True,
        ),
        Column("inception_score_std", "spread over splits", minimum=0),
        Column.count("inception_score_splits", "number of splits, 10 unless there are few images"),
    ),
)
