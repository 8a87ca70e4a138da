"""Fréchet distance, kernel distance, Inception Score, precision and recall: torch-fidelity's own, on features."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from eval.metrics.features import INCEPTION, Features, extract, layer_names, weights_digest

# Named in full because torch-fidelity drops a misspelt keyword silently and takes its default instead.
SETTINGS = {
    "isc_splits": 10,
    "samples_shuffle": True,
    "kid_subsets": 100,
    "kid_subset_size": 1000,
    "prc_neighborhood": 3,
    "prc_batch_size": 10_000,
    "rng_seed": 2020,
    "save_cpu_ram": True,
    "verbose": False,
}
FEATURE_METRICS = ("is", "fid", "kid", "prc")
# The covariance of C features has rank N - 1 at most, and the distance's bias falls as 1/N: the usual 10,000 images
# for Inception's 2,048 features are 5 images a feature, and 4 still pass here. The same for classes in each IS split.
ENOUGH = 4
HEADLINE = 10_000  # images below which nobody should cite a FID
IMAGES_PER_SPLIT = 10  # fewer, and the Inception Score gets fewer splits
PRC_IMAGES = 10_000  # precision and recall hold a matrix of all distances in memory, and sort it: 0.4 GB for these


def measure(
    images: Path | str | Dataset | Features,
    *,
    baseline: Path | str | Dataset | Features | None = None,
    reference: Path | str | Dataset | Features | None = None,
    feature_extractor: str,
    feature_extractor_weights: Path | str | None = None,
    metrics: Collection[str] = ("is", "fid"),
) -> dict:
    """Measures a set of images.

    Args:
        images: the generated images, or their features.
        baseline: the baseline's images, or their features from `extract` (so that they are extracted only once).
        reference: real images or statistics, or their features.
        feature_extractor: see `eval.metrics.features.extract`.
        feature_extractor_weights: the network's weights, see there.
        metrics: some of `FEATURE_METRICS`.

    Returns:
        `images` (count), `feature_extractor`, `feature_extractor_sha256` (of its weights), `warnings` and, where they
        are asked for and can be computed:

        - `inception_score_mean`, `_std`, `_splits`;
        - `frechet_distance_to_baseline`, `frechet_distance_to_reference`;
        - `kernel_inception_distance_to_baseline_mean`, `_std`, `_subset_size` (images in each of 100 subsets), and the
          same `_to_reference_`, which needs its images;
        - `precision` (share of these images within the others' neighbourhoods) and `recall` (the reverse), with
          `precision_recall_against` ("reference" if it has images, else "baseline") and `precision_recall_images`
          (the most that were taken of either set).

    Raises:
        ValueError: an argument or a set of images is unfit, or features come from another network.
    """
    digest = weights_digest(feature_extractor, feature_extractor_weights)
    sets = {"images": images, "baseline": baseline, "reference": reference}
    for name, given in sets.items():
        if isinstance(given, Features) and (given.feature_extractor, given.weights_sha256) != (
            feature_extractor,
            digest,
        ):
            raise ValueError(
                f"{name}: got features by {given.feature_extractor} (SHA-256 {given.weights_sha256[:12]}…), not "
                f"by {feature_extractor} ({digest[:12]}…), so they do not compare; extract both with one network"
            )
    ours, baseline, reference = (
        given
        if given is None or isinstance(given, Features)
        else extract(given, feature_extractor=feature_extractor, feature_extractor_weights=feature_extractor_weights)
        for given in sets.values()
    )
    if ours.images is None:
        raise ValueError("images: got statistics only; allowed: a set of images")

    result = {
        "images": ours.images,
        "feature_extractor": feature_extractor,
        "feature_extractor_sha256": digest,
        "warnings": [],
    }
    others = {name: other for name, other in (("baseline", baseline), ("reference", reference)) if other is not None}
    with_images = {name: other for name, other in others.items() if other.images is not None}
    if "is" in metrics:
        result |= _inception_score(ours, result["warnings"])
    if "fid" in metrics:
        for name, other in others.items():
            result |= _frechet_distance(ours, other, name, result["warnings"])
    if "kid" in metrics:
        for name, other in with_images.items():
            result |= _kernel_distance(ours, other, name, result["warnings"])
    if "prc" in metrics and with_images:
        result |= _precision_recall(ours, *list(with_images.items())[-1], result["warnings"])
    return result


def _inception_score(features: Features, warnings: list[str]) -> dict:
    from torch_fidelity.metric_isc import isc_featuresdict_to_metric

    layer = layer_names(features.feature_extractor)["isc"]
    score = f"Inception Score ({features.feature_extractor})"
    classes = features.layers[layer].shape[1]
    splits = min(SETTINGS["isc_splits"], features.images // IMAGES_PER_SPLIT)
    if splits == 0:
        warnings.append(f"no {score}: it needs {IMAGES_PER_SPLIT} images, there are {features.images}")
        return {}
    if features.images < ENOUGH * splits * classes:
        fewer = f" instead of {SETTINGS['isc_splits']}" if splits < SETTINGS["isc_splits"] else ""
        warnings.append(
            f"{score} reads low: {features.images:,} images in {splits} split{'s' if splits > 1 else ''}{fewer} are "
            f"fewer than {ENOUGH} for each of {classes:,} classes"
        )
    measured = isc_featuresdict_to_metric(features.layers, layer, **SETTINGS | {"isc_splits": splits})
    return measured | {"inception_score_splits": splits}


def _frechet_distance(ours: Features, other: Features, name: str, warnings: list[str]) -> dict:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    if ours.statistics is None or other.statistics is None:
        warnings.append(f"no Fréchet distance to the {name}: a covariance needs at least 2 images")
        return {}
    width = len(ours.statistics["mu"])
    fewest = min(count for count in (ours.images, other.images) if count is not None)
    if fewest < ENOUGH * width:
        degree = "far too few: the covariance is singular" if fewest <= width else "too few: the distance reads high"
        warnings.append(f"Fréchet distance to the {name}: {fewest:,} images for {width:,} features are {degree}")
    elif fewest < HEADLINE and ours.feature_extractor == INCEPTION:
        warnings.append(f"FID to the {name}: {fewest:,} images are fewer than {HEADLINE:,}, too few to cite it")
    if other.size is not None and other.size != ours.size:
        warnings.append(
            f"the {name}'s images are {other.size[0]} x {other.size[1]}, these {ours.size[0]} x {ours.size[1]}: the "
            "distance holds the change of size too"
        )
    # torch-fidelity insists on one data type; statistics made elsewhere may be float64.
    theirs = {key: value.astype(ours.statistics[key].dtype) for key, value in other.statistics.items()}
    distance = fid_statistics_to_metric(ours.statistics, theirs, verbose=False)[KEY_METRIC_FID]
    return {f"frechet_distance_to_{name}": distance}


def _kernel_distance(ours: Features, other: Features, name: str, warnings: list[str]) -> dict:
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_featuresdict_to_metric

    fewest = min(ours.images, other.images)
    usual = SETTINGS["kid_subset_size"]
    size = min(usual, fewest // 2)  # subsets of nearly all images are nearly equal, and their spread means nothing
    if size < 2:
        warnings.append(f"no kernel distance to the {name}: it needs 4 images, there are {fewest}")
        return {}
    if size < usual:
        warnings.append(
            f"kernel distance to the {name}: subsets of {size:,} images instead of {usual:,}, half of the {fewest:,} "
            "there are; it compares only with figures of as many images"
        )
    layer = layer_names(ours.feature_extractor)["kid"]
    measured = kid_featuresdict_to_metric(ours.layers, other.layers, layer, **SETTINGS | {"kid_subset_size": size})
    key = f"kernel_inception_distance_to_{name}"
    return {
        f"{key}_mean": measured[KEY_METRIC_KID_MEAN],
        f"{key}_std": measured[KEY_METRIC_KID_STD],
        f"{key}_subset_size": size,
    }


def _precision_recall(ours: Features, name: str, other: Features, warnings: list[str]) -> dict:
    from torch_fidelity.metric_prc import prc_features_to_metric

    least = SETTINGS["prc_neighborhood"] + 1
    fewest, most = sorted((ours.images, other.images))
    if fewest < least:
        warnings.append(f"no precision and recall: they need {least} images, there are {fewest}")
        return {}
    if most > PRC_IMAGES:
        warnings.append(
            f"precision and recall: of {most:,} images a random subset of {PRC_IMAGES:,} was taken, so that their "
            "distances fit into memory"
        )
    if min(fewest, PRC_IMAGES) != min(most, PRC_IMAGES):
        warnings.append(
            f"precision and recall: {min(most, PRC_IMAGES):,} and {fewest:,} images have neighbourhoods of unequal "
            f"size; they compare only with figures of as many images against the {name}"
        )
    layer = layer_names(ours.feature_extractor)["prc"]
    measured = prc_features_to_metric(_subset(ours.layers[layer]), _subset(other.layers[layer]), **SETTINGS)
    return {
        "precision": measured["precision"],
        "recall": measured["recall"],
        "precision_recall_against": name,
        "precision_recall_images": min(most, PRC_IMAGES),
    }


def _subset(features: torch.Tensor) -> torch.Tensor:
    """At most `PRC_IMAGES` rows, the same ones every time."""
    if len(features) <= PRC_IMAGES:
        return features
    chosen = np.random.RandomState(SETTINGS["rng_seed"]).choice(len(features), PRC_IMAGES, replace=False)
    return features[torch.from_numpy(np.sort(chosen))]
