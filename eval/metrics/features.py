"""Features of a set of images by one of torch-fidelity's networks, or by the bundled one."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from eval.metrics.images import holds_images, load_statistics, open_images

logger = logging.getLogger(__name__)

BUNDLED_EXTRACTOR = "fashion-mnist-128"
BUNDLED_IMAGE_SIZE = 32  # it takes no other
INCEPTION = "inception-v3-compat"  # the network that plain FID means
BUNDLED = Path(__file__).parents[1] / "bundled"
BUNDLED_REFERENCE = BUNDLED / "fashion_mnist_test.parquet"
BUNDLED_WEIGHTS = BUNDLED / "feature_net.safetensors"
BATCH = 64  # images a pass; does not change a figure


@dataclass(frozen=True)
class Features:
    """What the metrics need of one set of images; extracted once, kept in memory, never on disk.

    Attributes:
        feature_extractor: name of the network.
        weights_sha256: digest of the network's weights, see `weights_digest`.
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

    def of(self, metric: str) -> Tensor:
        """The features (N, C) that torch-fidelity takes for a metric: "isc", "fid", "kid" or "prc"."""
        return self.layers[layer_names(self.feature_extractor)[metric]]

    def part(self, start: int, stop: int) -> Features:
        """Features of the images from `start` to `stop` - 1 alone."""
        layers = {name: features[start:stop] for name, features in self.layers.items()}
        part = replace(self, layers=layers)
        return replace(part, statistics=_statistics(part.of("fid")), images=len(part.of("fid")))


def check_feature_extractor(feature_extractor: str, weights: Path | str | None = None) -> Path | None:
    """Checks a feature extractor's name and weights file without loading anything.

    Returns:
        The weights file that will be read; None where torch-fidelity fetches them itself.

    Raises:
        ValueError: unknown name, or no such file.
    """
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    register_bundled_extractor()
    if feature_extractor not in FEATURE_EXTRACTORS_REGISTRY:
        names = [BUNDLED_EXTRACTOR, *(name for name in FEATURE_EXTRACTORS_REGISTRY if name != BUNDLED_EXTRACTOR)]
        raise ValueError(f"feature_extractor: got {feature_extractor!r}; allowed: {', '.join(names)}")
    if weights is None:
        return BUNDLED_WEIGHTS if feature_extractor == BUNDLED_EXTRACTOR else None
    if not Path(weights).is_file():
        raise ValueError(
            f"feature_extractor_weights: there is no file {weights}; allowed: the weights of {feature_extractor}"
        )
    return Path(weights)


def weights_digest(feature_extractor: str, feature_extractor_weights: Path | str | None = None) -> str:
    """SHA-256 of a network's weights file, or of its parameters where torch-fidelity fetched them.

    Raises:
        ValueError: as `check_feature_extractor`, or the weights cannot be fetched or read.
    """
    path = check_feature_extractor(feature_extractor, feature_extractor_weights)
    if path is not None:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for name, values in _network(feature_extractor, None, None).state_dict().items():
        digest.update(name.encode() + values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_network(feature_extractor: str, feature_extractor_weights: Path | str | None = None):
    """The network, ready to run, on the GPU if there is one; loaded once.

    Raises:
        ValueError: unknown name, no such file, or the weights cannot be fetched or read.
    """
    weights = check_feature_extractor(feature_extractor, feature_extractor_weights)
    digest = weights_digest(feature_extractor, weights) if weights else None
    return _network(feature_extractor, weights, digest)


def layer_names(feature_extractor: str) -> dict[str, str]:
    """The feature layer of each metric, as the extractor itself defines them."""
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    register_bundled_extractor()
    network = FEATURE_EXTRACTORS_REGISTRY[feature_extractor]
    return {metric: network.get_default_feature_layer_for_metric(metric) for metric in ("isc", "fid", "kid", "prc")}


def extract(
    images: Path | str | Dataset, *, feature_extractor: str, feature_extractor_weights: Path | str | None = None
) -> Features:
    """Runs the feature network once over a set of images.

    Pass the result to `eval.metrics.feature_metrics.measure_images` as often as needed: there is no cache that could
    serve features of other images.

    Args:
        images: see `eval.metrics.images.open_images`; also an `.npz` of the statistics `mu` and `sigma`. With images
            beside them, as in the ImageNet batches of OpenAI's evaluator, the Fréchet distance takes the statistics
            (of all real images), every other metric the images (some of them).
        feature_extractor: the bundled network or any that is registered with torch-fidelity.
        feature_extractor_weights: the network's weights; None takes the bundled ones, or those that torch-fidelity
            downloads.

    Raises:
        ValueError: an argument, the weights or the images are unfit.
    """
    import torch
    from torch_fidelity.utils import get_featuresdict_from_dataset

    digest = weights_digest(feature_extractor, feature_extractor_weights)
    layers = layer_names(feature_extractor)
    given = load_statistics(images)
    # before the network: a wrong path should be told at once
    dataset = open_images(images) if given is None or holds_images(images) else None
    network = load_network(feature_extractor, feature_extractor_weights)
    if given is not None:
        width = _width(network, layers["fid"])
        if given["mu"].shape != (width,):
            raise ValueError(
                f"{images} holds statistics of {len(given['mu'])} features, but {feature_extractor} has "
                f"{width}; give statistics made with {feature_extractor}, or a set of images"
            )
    if dataset is None:
        return Features(feature_extractor, digest, {}, given, None, None)
    with full_precision():
        features = get_featuresdict_from_dataset(
            dataset, network, BATCH, torch.cuda.is_available(), save_cpu_ram=True, verbose=False
        )
    count = len(features[layers["fid"]])
    if count != len(dataset):
        raise RuntimeError(f"{len(dataset)} images went into {feature_extractor}, but features of {count} came out")
    logger.info("Features of %d images by %s", count, feature_extractor)
    statistics = given or _statistics(features[layers["fid"]])
    return Features(feature_extractor, digest, features, statistics, count, dataset.shape[1:])


@contextmanager
def full_precision() -> Iterator[None]:
    """Convolutions without TF32, which torch allows by default: a figure must not depend on what ran before it."""
    import torch

    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def _statistics(features: Tensor) -> dict[str, np.ndarray] | None:
    from torch_fidelity.metric_fid import fid_features_to_statistics

    return fid_features_to_statistics(features) if len(features) > 1 else None


@functools.lru_cache(maxsize=1)
def _network(feature_extractor: str, weights: Path | None, digest: str | None):
    """The network, ready to run. The digest is there for the cache: a file may be replaced under its name."""
    import torch
    from torch_fidelity.utils import create_feature_extractor

    names = sorted(set(layer_names(feature_extractor).values()))
    options = {"cuda": torch.cuda.is_available(), "verbose": False}
    options["feature_extractor_weights_path"] = None if weights is None else str(weights)
    try:
        return create_feature_extractor(feature_extractor, names, **options)
    except Exception as error:  # a truncated or foreign file shows as any of a dozen types, so does a missing network
        if weights is not None:
            raise ValueError(f"{weights} does not hold the weights of {feature_extractor}: {error}") from error
        raise ValueError(
            f"feature_extractor_weights: the weights of {feature_extractor} could not be downloaded ({error}); without "
            f"a network give them as a file: --feature_extractor_weights {_file_to_get(feature_extractor)}"
        ) from error


def _file_to_get(feature_extractor: str) -> str:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    if feature_extractor == INCEPTION:
        return f"{URL_INCEPTION_V3.rpartition('/')[2]}, from {URL_INCEPTION_V3}"
    return "FILE, as torch-fidelity's documentation names it"


def _width(network, layer: str) -> int:
    """Number of features of a layer."""
    import torch

    side = BUNDLED_IMAGE_SIZE if network.get_name() == BUNDLED_EXTRACTOR else 64
    device = next((values.device for values in network.state_dict().values()), "cpu")
    with torch.no_grad():
        outputs = network(torch.zeros(2, 3, side, side, dtype=torch.uint8, device=device))
    return network.convert_features_tuple_to_dict(outputs)[layer].shape[1]


@functools.cache
def register_bundled_extractor() -> None:
    """Makes the bundled network known to torch-fidelity (once a process: it refuses a second time)."""
    from safetensors.torch import load_file
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    from lightning_modules.training.feature_network import FEATURE_WIDTH, FeatureNet

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
            if tuple(images.shape[1:]) != (3, BUNDLED_IMAGE_SIZE, BUNDLED_IMAGE_SIZE):
                height, width = images.shape[2:]
                raise ValueError(
                    f"{BUNDLED_EXTRACTOR} measures 32 x 32 images, these are {height} x {width}; use {INCEPTION}"
                )
            features, logits = self.net(images.float() / 127.5 - 1)
            by_name = {str(FEATURE_WIDTH): features, "logits": logits}
            # The order of the list varies with the hash seed when torch-fidelity builds it from a set.
            return tuple(by_name[name].float() for name in self.features_list)

    register_feature_extractor(BUNDLED_EXTRACTOR, FashionMNISTExtractor)
