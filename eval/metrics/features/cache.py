"""Features of reference images, kept on this machine under a key of all that they follow from.

The bundled reference's lie beside it; they are used whatever the versions of the libraries.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy
import PIL
import torch
import torch_fidelity
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from eval.metrics.content import content
from eval.metrics.images.formats import BUNDLED_FILE, find_format
from sdvar.checkpoints.reading.files import sha256

log = logging.getLogger("sdvar.features")

FOLDER = "SDVAR_CACHE"  # the environment variable that names another folder
LARGEST = 4 << 30  # bytes of all files; beyond that the ones that were not used for longest go
BUNDLED = BUNDLED_FILE.parent / "reference_features.safetensors"


@dataclass(frozen=True)
class Kept:
    """Where the features of a set of images are kept, or will be.

    Attributes:
        key: changes with every byte of the images, with the network, the resizing, the libraries, the kind of device.
        file: that holds them if its own key is the same.
    """

    key: str
    file: Path

    @classmethod
    def of(cls, source: Path | str, feature_extractor: str, weights_sha256: str, resize: int | None) -> Kept:
        """Those of a source, see `eval.metrics.images.formats.open_source`.

        Args:
            source: a path, or the name of the bundled reference.
            feature_extractor: name of the network.
            weights_sha256: see `eval.metrics.features.networks.weights_digest`.
            resize: side to which the images are brought; None: as they are.
        """
        kind, path = find_format(source)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        versions = (module.__version__ for module in (torch, torch_fidelity, numpy, PIL))
        network = (feature_extractor, weights_sha256)
        key = _digest([kind.name, *content(path), *network, str(resize), device, *versions])
        return cls(key, _folder() / f"{key}.safetensors")

    @classmethod
    def bundled(cls, weights_sha256: str) -> Kept:
        """Those of the bundled reference."""
        return cls(_digest([sha256(BUNDLED_FILE), weights_sha256]), BUNDLED)

    def read(self) -> dict[str, Tensor] | None:
        """Features (N, C) by layer; None where none are kept."""
        if not self.file.is_file():
            return None
        try:
            with safe_open(self.file, framework="pt") as content:
                if (content.metadata() or {}).get("key") != self.key:
                    return None
                layers = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  no mapping
        except (OSError, SafetensorError) as error:
            log.warning("%s is damaged, its features are extracted again: %s", self.file, error)
            return None
        return layers

    def write(self, layers: dict[str, Tensor]) -> None:
        """All of the file or nothing: another process may be reading."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="part-", dir=self.file.parent) as part:
            whole = Path(part) / self.file.name
            save_file({name: features.contiguous() for name, features in layers.items()}, whole, {"key": self.key})
            whole.replace(self.file)


def cached_features(
    source: Path | str,
    feature_extractor: str,
    weights_sha256: str,
    resize: int | None,
    extract: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Features (N, C) by layer, extracted only where no earlier command has kept them.

    Args:
        source, feature_extractor, weights_sha256, resize: see `Kept.of`.
        extract: makes them. A cache that cannot be written is no error.
    """
    if resize is None and find_format(source)[1] == BUNDLED_FILE and (layers := Kept.bundled(weights_sha256).read()):
        return layers
    kept = Kept.of(source, feature_extractor, weights_sha256, resize)
    if layers := kept.read():
        _note_use(kept.file)
        return layers
    layers = extract()
    try:
        kept.write(layers)
        _forget_oldest()
    except (OSError, SafetensorError) as error:
        log.warning(
            "The features of %s cannot be kept for the next command: %s (%s names another folder)",
            source,
            error,
            FOLDER,
        )
    return layers


def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(FOLDER) or Path(home, "sdvar")) / "features"


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _note_use(file: Path) -> None:
    with suppress(OSError):
        os.utime(file)


def _forget_oldest() -> None:
    files = sorted(_folder().glob("*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
    sizes = itertools.accumulate(file.stat().st_size for file in files)
    for file, size in zip(files, sizes):
        if size > LARGEST:
            file.unlink(missing_ok=True)
