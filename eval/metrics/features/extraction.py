"""Features of a set of images by a feature network."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from eval.metrics.features.cache import cached_features
from eval.metrics.features.networks import layer_names, layer_width, load_network, weights_digest
from eval.metrics.images.formats import Statistics, open_source
from eval.metrics.images.sets import UniformImages
from eval.metrics.progress import progress
from sdvar.engine import tf32_allowed

logger = logging.getLogger(__name__)

BATCH = 64  # images per pass; does not change a feature


@dataclass(frozen=True)
class Asked:
    """What an arm's images were asked to be, each in the order of the images.

    Attributes:
        labels: N classes, from 0; the number of classes itself is the null class.
        seeds: N seeds.
        num_classes: of the models.
    """

    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    num_classes: int

    def part(self, start: int, stop: int) -> Asked:
        """Of the images from `start` to `stop` - 1 alone."""
        return Asked(self.labels[start:stop], self.seeds[start:stop], self.num_classes)


@dataclass(frozen=True)
class Features:
    """What the metrics need of one set of images.

    Attributes:
        feature_extractor: name of the network.
        weights_sha256: digest of the network's weights, see `weights_digest`.
        layers: features (N, C) by layer name; empty if only statistics were given.
        statistics: mean "mu" (C,) and covariance "sigma" (C, C); None for a single image.
        images: number of images; None if only statistics were given.
        size: height and width of the images; None if only statistics were given.
        asked: what the images were asked to be; None for images of no arm.
    """

    feature_extractor: str
    weights_sha256: str
    layers: dict[str, Tensor]
    statistics: Statistics | None
    images: int | None
    size: tuple[int, int] | None
    asked: Asked | None = None

    def of(self, metric: str) -> Tensor:
        """The features (N, C) that torch-fidelity takes for a metric: "isc", "fid", "kid" or "prc"."""
        return self.layers[layer_names(self.feature_extractor)[metric]]

    def part(self, start: int, stop: int) -> Features:
        """Features of the images from `start` to `stop` - 1 alone."""
        part = replace(self, layers={name: features[start:stop] for name, features in self.layers.items()})
        asked = self.asked and self.asked.part(start, stop)
        return replace(part, statistics=_statistics(part.of("fid")), images=len(part.of("fid")), asked=asked)


def extract(
    images: Path | str | Dataset,
    *,
    feature_extractor: str,
    feature_extractor_weights: Path | str | None = None,
    resize: int | None = None,
    keep: bool = False,
    quiet: bool = False,
) -> Features:
    """Runs the feature network once over a set of images.

    Pass the result to `eval.metrics.feature_metrics.measure_images` as often as needed.

    Args:
        images: see `eval.metrics.images.formats.open_source`; images, or statistics of the network's features. Where
            a file has both, as the ImageNet batches of OpenAI's evaluator, the Fréchet distance takes the statistics
            (of all real images), every other metric the images (some of them); statistics of another number of features
            than the network's are another network's, and are left.
        feature_extractor: the bundled network or any that is registered with torch-fidelity.
        feature_extractor_weights: the network's weights; None takes the bundled ones, or those that torch-fidelity
            downloads.
        resize: side to which the images are brought, see `eval.metrics.images.sets.ResizedImages`; None: as they are.
        keep: take features that an earlier command has kept, or keep them, see `eval.metrics.features.cache`; only
            where the images are a path.
        quiet: no progress line.

    Raises:
        ValueError: an argument, the weights or the images are invalid.
    """
    from torch_fidelity.utils import get_featuresdict_from_dataset

    digest = weights_digest(feature_extractor, feature_extractor_weights)
    layer = layer_names(feature_extractor)["fid"]
    source = open_source(images, resize)  # before the network is loaded: a wrong path is reported at once
    network = load_network(feature_extractor, feature_extractor_weights)
    given = source.statistics
    if given is not None and len(given["mu"]) != (width := layer_width(network, layer)):
        if source.images is None:
            raise ValueError(
                f"{images} has statistics of {len(given['mu'])} features, but {feature_extractor} has {width}; give "
                f"statistics made with {feature_extractor}, or a set of images"
            )
        given = None  # of another network: the images serve
    if source.images is None:
        return Features(feature_extractor, digest, {}, given, None, None)
    found = source.images

    def run() -> dict[str, Tensor]:
        with tf32_allowed(False), progress(len(found), "features", " images", quiet) as bar:
            return get_featuresdict_from_dataset(
                _Counted(found, bar), network, BATCH, torch.cuda.is_available(), save_cpu_ram=True, verbose=False
            )

    kept = keep and not isinstance(images, Dataset)
    layers = cached_features(images, feature_extractor, digest, resize, run) if kept else run()
    count = len(layers[layer])
    if count != len(source.images):
        raise RuntimeError(f"{feature_extractor}: expected features of {len(source.images)} images, got {count}")
    logger.info("Features of %d images by %s", count, feature_extractor)
    statistics = given or _statistics(layers[layer])
    return Features(feature_extractor, digest, layers, statistics, count, source.images.shape[1:])


class _Counted(Dataset):
    """Images that a progress line counts; the data loader reads them in this process."""

    def __init__(self, images: UniformImages, bar: tqdm) -> None:
        self.images, self.bar = images, bar

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        self.bar.update(len(indices))
        return self.images.__getitems__(indices)


def _statistics(features: Tensor) -> dict[str, np.ndarray] | None:
    from torch_fidelity.metric_fid import fid_features_to_statistics

    return fid_features_to_statistics(features) if len(features) > 1 else None
