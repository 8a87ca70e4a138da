"""The feature networks: the bundled one and those registered with torch-fidelity, their weights and their layers."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sdvar.system.command_line import listed

if TYPE_CHECKING:
    from torch import Tensor
    from torch_fidelity import FeatureExtractorBase

BUNDLED_EXTRACTOR = "fashion-mnist-128"
BUNDLED_IMAGE_SIZE = 32  # it takes no other
BUNDLED_WEIGHTS = Path(__file__).parents[2] / "bundled" / "feature_net.safetensors"
INCEPTION = "inception-v3-compat"  # the network whose Fréchet distance is called FID
DOWNLOAD = "download"  # in place of a weights file
NO_FILE = "dinov2-"  # networks to which torch-fidelity takes no file
METRIC_NAMES = ("isc", "fid", "kid", "prc")  # as torch-fidelity calls the metrics that have a layer


def parse_networks(
    feature_extractor: str | Sequence[str] | None, feature_extractor_weights: str | Sequence[str] | None
) -> list[dict[str, str | None]]:
    """The networks that a user names, each as the arguments of `eval.metrics.features.extraction.extract`.

    Args:
        feature_extractor: a list of names, or a text with commas.
        feature_extractor_weights: of a single network its file or `DOWNLOAD`; of several a list of NAME=FILE, or a text
            with commas, where what is left out takes the default; or `DOWNLOAD` for all of them.

    Raises:
        ValueError: a name comes twice, or weights are of none of the networks.
    """
    names = listed(feature_extractor)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"feature_extractor: expected each network once, got {twice!r} twice")
    given = feature_extractor_weights
    if given is None or given == DOWNLOAD:
        return [_network_arguments(name, given) for name in names]
    if len(names) == 1 and isinstance(given, str) and not given.startswith(f"{names[0]}="):
        return [_network_arguments(names[0], given)]
    files: dict[str, str] = {}
    for entry in listed(given):
        name, equals, file = entry.partition("=")
        if name not in names or not equals or not file:
            raise ValueError(
                f"feature_extractor_weights: expected NAME=FILE for networks among {', '.join(names)}, or {DOWNLOAD}; "
                f"got {entry!r}"
            )
        files[name] = file
    return [_network_arguments(name, files.get(name)) for name in names]


def _network_arguments(name: str, weights: str | None) -> dict[str, str | None]:
    return {"feature_extractor": name, "feature_extractor_weights": weights}


def check_feature_extractor(feature_extractor: str, feature_extractor_weights: Path | str | None = None) -> Path | None:
    """Checks a feature extractor's name and weights file without loading anything.

    Nothing is downloaded unasked: where no file is given, torch's cache must have the weights, or the word `DOWNLOAD`
    stands for them.

    Returns:
        The weights file that will be read; None where torch-fidelity finds or downloads them itself.

    Raises:
        ValueError: the name is unknown, or the file is missing.
    """
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    register_bundled_extractor()
    if feature_extractor not in FEATURE_EXTRACTORS_REGISTRY:
        names = [BUNDLED_EXTRACTOR, *(name for name in FEATURE_EXTRACTORS_REGISTRY if name != BUNDLED_EXTRACTOR)]
        raise ValueError(f"feature_extractor: got {feature_extractor!r}; allowed: {', '.join(names)}")
    if feature_extractor == BUNDLED_EXTRACTOR and feature_extractor_weights in (None, DOWNLOAD):
        return BUNDLED_WEIGHTS
    if feature_extractor_weights is None and _would_download(feature_extractor):
        file = "" if feature_extractor.startswith(NO_FILE) else f"{_file_to_get(feature_extractor)}, or "
        raise ValueError(
            f"feature_extractor_weights: the weights of {feature_extractor} are not on this machine; give {file}the "
            f"word {DOWNLOAD}, which lets torch-fidelity fetch them"
        )
    if feature_extractor_weights in (None, DOWNLOAD):
        return None
    if feature_extractor.startswith(NO_FILE):
        raise ValueError(
            f"feature_extractor_weights: torch-fidelity takes no file of {feature_extractor}; expected the word "
            f"{DOWNLOAD}, which uses the cache of torch's hub if it is there, got {feature_extractor_weights}"
        )
    weights = Path(feature_extractor_weights)
    if not weights.is_file():
        raise ValueError(
            f"feature_extractor_weights: there is no file {weights}; allowed: the weights of {feature_extractor}"
        )
    return weights


def weights_digest(feature_extractor: str, feature_extractor_weights: Path | str | None = None) -> str:
    """SHA-256 of a network's weights file, or of its parameters where torch-fidelity downloads them.

    Raises:
        ValueError: as `check_feature_extractor`, or the weights cannot be downloaded or read.
    """
    from sdvar.checkpoints.reading.files import sha256

    path = check_feature_extractor(feature_extractor, feature_extractor_weights)
    if path is not None:
        return sha256(path)
    digest = hashlib.sha256()
    for name, values in _network(feature_extractor, None, None).state_dict().items():
        digest.update(name.encode() + values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_network(feature_extractor: str, feature_extractor_weights: Path | str | None = None) -> FeatureExtractorBase:
    """The network, ready to run, on the GPU if there is one; loaded once.

    Raises:
        ValueError: the name is unknown, the file is missing, or the weights cannot be downloaded or read.
    """
    weights = check_feature_extractor(feature_extractor, feature_extractor_weights)
    digest = weights_digest(feature_extractor, weights) if weights else None
    return _network(feature_extractor, weights, digest)


def layer_names(feature_extractor: str) -> dict[str, str]:
    """The feature layer of each of `METRIC_NAMES`, as the extractor itself defines them."""
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    register_bundled_extractor()
    network = FEATURE_EXTRACTORS_REGISTRY[feature_extractor]
    return {metric: network.get_default_feature_layer_for_metric(metric) for metric in METRIC_NAMES}


def has_classes(feature_extractor: str) -> bool:
    """Whether a network tells classes apart: then the layer of the Inception Score is none of features."""
    layers = layer_names(feature_extractor)
    return layers["isc"] != layers["fid"]


def layer_width(network: FeatureExtractorBase, layer: str) -> int:
    """Number of features of a layer."""
    import torch

    side = BUNDLED_IMAGE_SIZE if network.get_name() == BUNDLED_EXTRACTOR else 64
    device = next((values.device for values in network.state_dict().values()), "cpu")
    with torch.no_grad():
        outputs = network(torch.zeros(2, 3, side, side, dtype=torch.uint8, device=device))
    return network.convert_features_tuple_to_dict(outputs)[layer].shape[1]


@functools.lru_cache(maxsize=1)
def _network(feature_extractor: str, weights: Path | None, digest: str | None) -> FeatureExtractorBase:
    """The network, ready to run. The digest is there for the cache: a file may be replaced under its name."""
    import torch
    from torch_fidelity.utils import create_feature_extractor

    names = sorted(set(layer_names(feature_extractor).values()))
    options = {"cuda": torch.cuda.is_available(), "verbose": False}
    try:
        if weights is None:
            return create_feature_extractor(feature_extractor, names, **options)
        with _safe_copy(weights) as copy:
            return create_feature_extractor(
                feature_extractor, names, feature_extractor_weights_path=str(copy), **options
            )
    except Exception as error:  # a truncated or foreign file shows as any of a dozen types, so does a missing network
        reason = " ".join(str(error).split())
        if weights is not None:
            raise ValueError(f"{weights} does not hold the weights of {feature_extractor}: {reason}") from error
        raise ValueError(
            f"feature_extractor_weights: the weights of {feature_extractor} could not be downloaded ({reason}); "
            f"without a network give them as a file: --feature_extractor_weights {_file_to_get(feature_extractor)}"
        ) from error


@contextmanager
def _safe_copy(weights: Path) -> Iterator[Path]:
    """The tensors of a weights file in a private file of our own.

    torch-fidelity unpickles the file that it is given, and a pickle can run code; the file itself may be replaced
    between a check and its use.
    """
    import torch

    from sdvar.checkpoints.reading.files import read

    if weights == BUNDLED_WEIGHTS:
        yield weights
        return
    tensors = read(weights)
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        copy = Path(folder) / "weights.pth"
        torch.save(tensors, copy)
        yield copy


def _would_download(feature_extractor: str) -> bool:
    """Whether it is a network of torch-fidelity's own whose weights torch's cache is not known to have."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    file = Path(torch.hub.get_dir(), "checkpoints", URL_INCEPTION_V3.rpartition("/")[2])
    own = FEATURE_EXTRACTORS_REGISTRY[feature_extractor].__module__.startswith("torch_fidelity.")
    return own and not (feature_extractor == INCEPTION and file.is_file())


def _file_to_get(feature_extractor: str) -> str:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    if feature_extractor == INCEPTION:
        return f"{URL_INCEPTION_V3.rpartition('/')[2]}, from {URL_INCEPTION_V3}"
    return "FILE, as torch-fidelity's documentation names it"


@functools.cache
def register_bundled_extractor() -> None:
    """Registers the bundled network with torch-fidelity, once per process: it refuses a second time."""
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    from lightning_modules.training.feature_net import FEATURE_WIDTH, FeatureNet
    from sdvar.checkpoints.reading.files import read

    class FashionMNISTExtractor(FeatureExtractorBase):
        """The bundled classifier: 128 features and 10 class scores of a 32 x 32 image."""

        # torch-fidelity passes all of its keywords to every extractor.
        def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path=None, **kwargs) -> None:
            super().__init__(name, features_list)
            self.net = FeatureNet()
            self.net.load_state_dict(read(feature_extractor_weights_path or BUNDLED_WEIGHTS))

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
                    f"{BUNDLED_EXTRACTOR} measures 32 x 32 images, these are {height} x {width}; use {INCEPTION}, "
                    "or for a reference --resize"
                )
            features, logits = self.net(images.float() / 127.5 - 1)
            by_name = {str(FEATURE_WIDTH): features, "logits": logits}
            # The order of the list varies with the hash seed when torch-fidelity builds it from a set.
            return tuple(by_name[name].float() for name in self.features_list)

    register_feature_extractor(BUNDLED_EXTRACTOR, FashionMNISTExtractor)
