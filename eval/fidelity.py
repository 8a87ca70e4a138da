"""Fréchet distance and Inception Score by torch-fidelity, on its own or on the bundled feature network."""

import functools
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from eval.image_sources import load_statistics, open_images

logger = logging.getLogger(__name__)

BUNDLED_EXTRACTOR = "fashion-mnist-128"
FEATURE_EXTRACTORS = (BUNDLED_EXTRACTOR, "inception-v3-compat")
BUNDLED = Path(__file__).parent / "bundled"
BUNDLED_REFERENCE = BUNDLED / "fashion_mnist_test.parquet"
BUNDLED_WEIGHTS = BUNDLED / "feature_net.safetensors"

# Named in full because torch-fidelity drops a misspelt keyword silently and takes its default instead.
SETTINGS = {"isc_splits": 10, "samples_shuffle": True, "rng_seed": 2020, "save_cpu_ram": True, "verbose": False}
# The covariance of C features has rank N - 1 at most, and the distance's bias falls as 1/N: the usual 10,000 images
# for Inception's 2,048 features are 5 images a feature, and 4 still pass here. The same for classes in each IS split.
ENOUGH = 4


@dataclass(frozen=True)
class Features:
    """What the metrics need of one set of images; extracted once, kept in memory, never on disk.

    Attributes:
        feature_extractor: name of the network, one of `FEATURE_EXTRACTORS`.
        weights_sha256: digest of the network's weights file.
        layers: features (N, C) by layer name; empty if only statistics were given.
        statistics: mean "mu" (C,) and covariance "sigma" (C, C); None for a single image.
        images: number of images; None if only statistics were given.
        size: height and width of the images; None if only statistics were given.
    """

    feature_extractor: str
    weights_sha256: str
    layers: dict[str, Tensor]
    statistics: dict[str, np.ndarray] | None
    images: int | None
    size: tuple[int, int] | None


def check_feature_extractor(feature_extractor: str, weights: Path | str | None = None) -> Path:
    """Checks a feature extractor's name and weights without loading anything.

    Returns:
        The weights file that will be read.

    Raises:
        ValueError: unknown name, no weights given where none are bundled, or no such file.
    """
    if feature_extractor not in FEATURE_EXTRACTORS:
        raise ValueError(f"feature_extractor: got {feature_extractor!r}; allowed: {', '.join(FEATURE_EXTRACTORS)}")
    if weights is None and feature_extractor != BUNDLED_EXTRACTOR:
        raise ValueError(
            f"feature_extractor_weights: {feature_extractor} needs a local weights file and nothing is downloaded; "
            "give torch-fidelity's weights-inception-2015-12-05-6726825d.pth (from its release page)"
        )
    path = Path(weights) if weights is not None else BUNDLED_WEIGHTS
    if not path.is_file():
        raise ValueError(
            f"feature_extractor_weights: there is no file {path}; allowed: the weights of {feature_extractor}"
        )
    return path


def extract(
    images: Path | str | Dataset, *, feature_extractor: str, feature_extractor_weights: Path | str | None = None
) -> Features:
    """Runs the feature network once over a set of images.

    Hand the result to `measure` as often as needed: there is no cache that could serve features of other images.

    Args:
        images: see `eval.image_sources.open_images`; also an `.npz` of the statistics `mu` and `sigma`.
        feature_extractor: one of `FEATURE_EXTRACTORS`.
        feature_extractor_weights: the network's weights, required except for the bundled network.

    Raises:
        ValueError: an argument, the weights or the images are unfit.
    """
    weights = check_feature_extractor(feature_extractor, feature_extractor_weights)
    layers = _layers(feature_extractor)
    digest = _sha256(weights)
    statistics = load_statistics(images)
    if statistics is not None:
        if statistics["mu"].shape != (int(layers["fid"]),):
            raise ValueError(
                f"{images} holds statistics of {len(statistics['mu'])} features, but {feature_extractor} has "
                f"{layers['fid']}; give statistics made with {feature_extractor}, or a set of images"
            )
        return Features(feature_extractor, digest, {}, statistics, None, None)

    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics
    from torch_fidelity.utils import create_feature_extractor, get_featuresdict_from_dataset

    dataset = open_images(images)
    cuda = torch.cuda.is_available()
    names = sorted(set(layers.values()))
    try:
        network = create_feature_extractor(
            feature_extractor, names, cuda=cuda, feature_extractor_weights_path=str(weights), verbose=False
        )
    except Exception as error:  # a truncated or foreign file shows as any of a dozen types
        raise ValueError(f"{weights} does not hold the weights of {feature_extractor}: {error}") from error
    features = get_featuresdict_from_dataset(dataset, network, 64, cuda, SETTINGS["save_cpu_ram"], verbose=False)
    count = len(features[layers["fid"]])
    if count != len(dataset):
        raise RuntimeError(f"{len(dataset)} images went into {feature_extractor}, but features of {count} came out")
    logger.info("Features of %d images by %s", count, feature_extractor)
    statistics = fid_features_to_statistics(features[layers["fid"]]) if count > 1 else None
    return Features(feature_extractor, digest, features, statistics, count, dataset.shape[1:])


def measure(
    images: Path | str | Dataset | Features,
    *,
    baseline: Path | str | Dataset | Features | None = None,
    reference: Path | str | Dataset | Features | None = None,
    feature_extractor: str,
    feature_extractor_weights: Path | str | None = None,
) -> dict:
    """Measures a set of images.

    Args:
        images: the generated images, or their features.
        baseline: the baseline's images, or their features from `extract` (so that they are extracted only once).
        reference: real images or statistics, or their features.
        feature_extractor: one of `FEATURE_EXTRACTORS`.
        feature_extractor_weights: the network's weights, required except for the bundled network.

    Returns:
        `images` (count), `feature_extractor`, `feature_extractor_sha256` (of its weights), `warnings` and, where they
        can be computed, `inception_score_mean`, `inception_score_std`, `frechet_distance_to_baseline`,
        `frechet_distance_to_reference`.

    Raises:
        ValueError: an argument or a set of images is unfit, or features come from another network.
    """
    weights = check_feature_extractor(feature_extractor, feature_extractor_weights)
    digest = _sha256(weights)
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
        else extract(given, feature_extractor=feature_extractor, feature_extractor_weights=weights)
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
    result.update(_inception_score(ours, result["warnings"]))
    for name, other in (("baseline", baseline), ("reference", reference)):
        if other is not None:
            result.update(_frechet_distance(ours, other, name, result["warnings"]))
    return result


def _inception_score(features: Features, warnings: list[str]) -> dict:
    from torch_fidelity.metric_isc import isc_featuresdict_to_metric

    layer = _layers(features.feature_extractor)["isc"]
    score = f"Inception Score ({features.feature_extractor})"
    splits, classes = SETTINGS["isc_splits"], features.layers[layer].shape[1]
    if features.images < splits:
        warnings.append(f"no {score}: {splits} splits need {splits} images, there are {features.images}")
        return {}
    if features.images < ENOUGH * splits * classes:
        warnings.append(
            f"{score} reads low: {features.images:,} images in {splits} splits are fewer than {ENOUGH} for "
            f"each of {classes:,} classes"
        )
    return isc_featuresdict_to_metric(features.layers, layer, **SETTINGS)


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
    if other.size is not None and other.size != ours.size:
        warnings.append(
            f"the {name}'s images are {other.size[0]} x {other.size[1]}, these {ours.size[0]} x {ours.size[1]}: the "
            "distance holds the change of size too"
        )
    # torch-fidelity insists on one data type; statistics made elsewhere may be float64.
    theirs = {key: value.astype(ours.statistics[key].dtype) for key, value in other.statistics.items()}
    distance = fid_statistics_to_metric(ours.statistics, theirs, verbose=False)[KEY_METRIC_FID]
    return {f"frechet_distance_to_{name}": distance}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _layers(feature_extractor: str) -> dict[str, str]:
    """The feature layer of each metric, as the extractor itself defines them."""
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    register_bundled_extractor()
    network = FEATURE_EXTRACTORS_REGISTRY[feature_extractor]
    return {metric: network.get_default_feature_layer_for_metric(metric) for metric in ("isc", "fid")}


@functools.cache
def register_bundled_extractor() -> None:
    """Makes the bundled network known to torch-fidelity (once a process: it refuses a second time)."""
    from safetensors.torch import load_file
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    from lightning_modules.feature_net import FEATURE_WIDTH, FeatureNet

    class FashionMNISTExtractor(FeatureExtractorBase):
        """The bundled classifier: 128 features and 10 class scores of a 32 x 32 image."""

        # torch-fidelity passes all of its keywords to every extractor.
        def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path=None, **kwargs) -> None:
            super().__init__(name, features_list)
            self.net = FeatureNet()
            self.net.load_state_dict(load_file(feature_extractor_weights_path or BUNDLED_WEIGHTS))

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return str(FEATURE_WIDTH), "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else str(FEATURE_WIDTH)

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            if tuple(images.shape[1:]) != (3, 32, 32):
                height, width = images.shape[2:]
                raise ValueError(
                    f"{BUNDLED_EXTRACTOR} measures 32 x 32 images, these are {height} x {width}; "
                    "use inception-v3-compat"
                )
            features, logits = self.net(images.float() / 127.5 - 1)
            by_name = {str(FEATURE_WIDTH): features, "logits": logits}
            # The order of the list varies with the hash seed when torch-fidelity builds it from a set.
            return tuple(by_name[name].float() for name in self.features_list)

    register_feature_extractor(BUNDLED_EXTRACTOR, FashionMNISTExtractor)
