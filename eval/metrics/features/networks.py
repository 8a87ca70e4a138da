"""The feature networks by name: the bundled one and those registered with torch-fidelity, their weights and layers."""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eval.metrics.features.extractors import (
    BUNDLED_EXTRACTOR,
    BUNDLED_IMAGE_SIZE,
    BUNDLED_WEIGHTS,
    register_extractors,
)
from eval.metrics.features.published import Published, published
from sdvar.system.command_line import listed

if TYPE_CHECKING:
    from torch_fidelity import FeatureExtractorBase

DOWNLOAD = "download"  # in place of a weights file
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

    Nothing is downloaded unasked: where no file is given, the folder of torch's hub must have the weights, or the word
    `DOWNLOAD` stands for them.

    Returns:
        The weights file that will be read; None where torch-fidelity downloads them, and for a network that is not its
        own and finds them itself.

    Raises:
        ValueError: the name is unknown, or the file or the network's code is missing.
    """
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    register_extractors()
    if feature_extractor not in FEATURE_EXTRACTORS_REGISTRY:
        names = [BUNDLED_EXTRACTOR, *(name for name in FEATURE_EXTRACTORS_REGISTRY if name != BUNDLED_EXTRACTOR)]
        raise ValueError(f"feature_extractor: got {feature_extractor!r}; allowed: {', '.join(names)}")
    given = feature_extractor_weights
    if feature_extractor == BUNDLED_EXTRACTOR and given in (None, DOWNLOAD):
        return BUNDLED_WEIGHTS
    theirs = published(feature_extractor)
    if given not in (None, DOWNLOAD):
        weights = Path(str(given))
        if not weights.is_file():
            raise ValueError(
                f"feature_extractor_weights: there is no file {weights}; allowed: the weights of {feature_extractor}"
                + (f", {theirs.url}" if theirs else "")
            )
    elif theirs is None:
        return None
    elif theirs.kept.is_file() and (theirs.code_is_there or given is None):
        weights = theirs.kept
    elif given == DOWNLOAD:
        return None
    else:
        raise ValueError(
            f"feature_extractor_weights: the weights of {feature_extractor} are not on this machine; give "
            f"{_file_to_get(theirs)}, or the word {DOWNLOAD}, which lets torch-fidelity fetch them"
        )
    if theirs and not theirs.code_is_there:
        raise ValueError(
            f"feature_extractor: the code of {feature_extractor} is not on this machine: expected {theirs.code}, which "
            f"the word {DOWNLOAD} fetches with the weights, or by hand {theirs.code_to_get}"
        )
    return weights


def weights_digest(feature_extractor: str, feature_extractor_weights: Path | str | None = None) -> str:
    """SHA-256 of a network's weights file, or of the parameters of one that finds its weights itself.

    Raises:
        ValueError: as `check_feature_extractor`, or the weights cannot be downloaded or read.
    """
    from sdvar.checkpoints.reading.files import sha256

    path = check_feature_extractor(feature_extractor, feature_extractor_weights)
    if path is None:
        network = _network(feature_extractor, None, None)
        path = check_feature_extractor(feature_extractor, feature_extractor_weights)  # there now, if it was downloaded
    if path is not None:
        return sha256(path)
    digest = hashlib.sha256()
    for name, values in network.state_dict().items():
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

    register_extractors()
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
        with _safe_copy(feature_extractor, weights) as copy:
            return create_feature_extractor(
                feature_extractor, names, feature_extractor_weights_path=str(copy), **options
            )
    except Exception as error:  # a truncated or foreign file shows as any of a dozen types, so does a missing network
        reason = " ".join(str(error).split())
        if weights is not None:
            raise ValueError(f"{weights} does not hold the weights of {feature_extractor}: {reason}") from error
        raise ValueError(
            f"feature_extractor_weights: the weights of {feature_extractor} could not be downloaded ({reason}); "
            "without a network give them as a file, --feature_extractor_weights FILE"
            + (f": {_file_to_get(theirs)}" if (theirs := published(feature_extractor)) else "")
        ) from error


@contextmanager
def _safe_copy(feature_extractor: str, weights: Path) -> Iterator[Path]:
    """The tensors of a weights file in a private file of our own.

    torch-fidelity unpickles the file that it is given, and a pickle can run code; the file itself may be replaced
    between a check and its use. Where it expects a program, it gets the published one to the byte, or nothing.
    """
    import torch

    from sdvar.checkpoints.reading.files import read, sha256

    if weights == BUNDLED_WEIGHTS:
        yield weights
        return
    theirs = published(feature_extractor)
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        copy = Path(folder) / "weights.pth"
        if theirs and theirs.sha256:
            shutil.copyfile(weights, copy)
            if sha256(copy) != theirs.sha256:
                raise ValueError(f"it is not {theirs.url} (its SHA-256 differs)")
        else:
            torch.save(read(weights), copy)
        yield copy


def _file_to_get(theirs: Published) -> str:
    """The weights file and, where it takes more, the code."""
    return f"the file {theirs.url}" + ("" if theirs.code_is_there else f" and the code ({theirs.code_to_get})")
