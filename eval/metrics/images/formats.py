"""The formats in which a set of images, or statistics in place of them, can be given: `--reference`, an arm's folder.

To add one, write a function that reads it and add a `Format` to `FORMATS`; help and errors derive from that list.
"""

from __future__ import annotations

import glob
import logging
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from eval.metrics.images.folders import image_files, is_arm, suffixes
from eval.metrics.images.sets import ArrayImages, FileImages, ResizedImages, TableImages, UniformImages
from lightning_modules.run.formats.rows import read_rows
from sdvar.system.command_line import did_you_mean

BUNDLED = "bundled"  # by name: a run's config and report should not show the path of an installation
BUNDLED_FILE = Path(__file__).parents[2] / "bundled" / "fashion_mnist_test.parquet"
LARGEST = 1e30  # of a feature's mean or covariance: their products are finite
ROUNDING = 1e-3  # of its largest entry: how far a covariance of float32 features may be from an exact one
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
log = logging.getLogger("sdvar.images")

Statistics = dict[str, np.ndarray]  # mean "mu" (C,) and covariance "sigma" (C, C) of features


@dataclass(frozen=True)
class Source:
    """What a source gives: images, statistics, or both (all real images' statistics and some of the images)."""

    images: UniformImages | None = None
    statistics: Statistics | None = None


@dataclass(frozen=True)
class Format:
    """A format of images.

    Attributes:
        name: as in `name:PATH`, where a user chooses it.
        help: what it is, in errors.
        read: opens a path of this format: its images or None, its statistics or None.
        matches: whether a path without a name is of this format.
        class_names: names of its classes, empty where it has none; None for a format that has none ever.
    """

    name: str
    help: str
    read: Callable[[Path], tuple[Dataset | None, Statistics | None]]
    matches: Callable[[Path], bool] = lambda path: False
    class_names: Callable[[Path], list[str]] | None = None


def open_source(source: Path | str | Dataset, resize: int | None = None) -> Source:
    """Opens a set of images, or of statistics.

    Args:
        source: a path in one of `FORMATS`, `bundled`, or a data set of uint8 tensors (3, H, W).
        resize: side to which images are brought, see `ResizedImages`; None leaves them as they are.

    Raises:
        ValueError: the source is missing, empty, damaged or in none of the formats.
    """
    path: Path | str
    if isinstance(source, Dataset):
        path, images, statistics = "the data set", source, None
    else:
        kind, path = find_format(source)
        images, statistics = kind.read(path)
    if resize is not None and images is not None and len(images):
        images = ResizedImages(images, resize)
    return Source(None if images is None else UniformImages(images, str(path)), statistics)


def open_images(source: Path | str | Dataset) -> UniformImages:
    """Opens a set of images as uint8 tensors (3, H, W), all of one size.

    Raises:
        ValueError: as `open_source`, or there are statistics alone.
    """
    images = open_source(source).images
    if images is None:
        raise ValueError(f"{source} has statistics only; allowed: a set of images")
    return images


def given(reference: str | None) -> str | None:
    """A reference as a user names it; None where there is to be none.

    Raises:
        ValueError: it is an empty text, as a variable of the shell that is not set leaves it.
    """
    if reference is not None and not reference.strip():
        raise ValueError(f"reference: expected a path, {BUNDLED} or none, got {reference!r}")
    return None if reference == "none" else reference


def class_names(source: Path | str) -> list[str]:
    """Names of the classes of a source; empty where it has none."""
    kind, path = find_format(source)
    return kind.class_names(path) if kind.class_names else []


def find_format(source: Path | str) -> tuple[Format, Path]:
    """The format of a source and its path.

    Raises:
        ValueError: the path is missing, or is in none of the formats.
    """
    if source == BUNDLED:
        source = BUNDLED_FILE
    name, _, rest = str(source).partition(":")
    named = {kind.name: kind for kind in FORMATS}.get(name) if rest else None
    path = Path(os.path.expanduser(rest if named else source))
    found = named or next((kind for kind in FORMATS if kind.matches(path)), None)
    if found is None or not path.exists():
        problem = _instead(path) if path.exists() else f"does not exist{did_you_mean(str(source), (BUNDLED,))}"
        if "://" in str(source):
            path, problem = source, "is an address, and references are not downloaded; give what is on this machine"
        raise ValueError(f"{path} {problem}; allowed: {', '.join(kind.help for kind in FORMATS)}")
    return found, path


def _read_folder(path: Path) -> tuple[Dataset, None]:
    """A folder's images; in the folder of a run's arm those that its manifest lists."""
    if is_arm(path):
        return FileImages.of_rows(path, read_rows(path / "manifest.csv", ("index", "file"))), None
    files, skipped = image_files(path)
    if not files:
        raise ValueError(f"{path} has no images{_tables(path) or (skipped and f'; skipped: {skipped}')}")
    if skipped:
        log.warning("%s: %s images; skipped: %s", path, f"{len(files):,}", skipped)
    return FileImages(files), None


def _tables(folder: Path) -> str:
    """What to do about a folder of tables, as `datasets` and the hub keep images."""
    names = [path.name for path in folder.rglob("*") if path.suffix in (".parquet", ".arrow")][:1]
    if not names:
        return ""
    if names[0].endswith(".parquet"):
        return f", but tables such as {names[0]}; give parquet:{folder}"
    return f", but tables such as {names[0]}; write them with Dataset.to_parquet and give the file"


def _instead(path: Path) -> str:
    """What lies at a path that is not a set of images, and what to do."""
    if path.suffix.lower() in suffixes():
        return "is one image; give a folder of them"
    if path.suffix.lower() in ARCHIVES:
        return "is an archive; unpack it and give the folder"
    return "is not a set of images"


def _read_npz(path: Path) -> tuple[Dataset | None, Statistics | None]:
    """Images under `arr_0` or `images`, statistics under `mu` and `sigma`; OpenAI's reference batches have both."""
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as arrays:
            images = [arrays[name] for name in ("arr_0", "images") if name in arrays.files]
            statistics = {name: arrays[name] for name in ("mu", "sigma") if name in arrays.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError):
        raise ValueError(f"{path} cannot be read as .npz; it is damaged or in another format") from None
    except MemoryError as error:  # also where a header promises more than the file holds
        raise ValueError(f"{path} does not fit into memory: {error}") from None
    if len(images) > 1 or not (images or len(statistics) == 2):
        raise ValueError(f"{path}: expected images under 'arr_0' or 'images', or statistics under 'mu' and 'sigma'")
    return (
        ArrayImages(_checked_images(path, images[0])) if images else None,
        _checked_statistics(path, **statistics) if len(statistics) == 2 else None,
    )


def _checked_images(path: Path, array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise ValueError(f"the images in {path} are {array.dtype} {array.shape}; allowed: uint8 (N, height, width, 3)")
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array


def _checked_statistics(path: Path, mu: np.ndarray, sigma: np.ndarray) -> Statistics:
    """Refuses what is not a mean and a covariance: a distance to it would be a number without meaning."""
    for name, array in (("mu", mu), ("sigma", sigma)):
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{path}: {name} is {array.dtype}; allowed: float32, float64")
        if not (np.abs(array) < LARGEST).all():
            raise ValueError(f"{path}: {name} has values that are not finite, or beyond {LARGEST:g}")
    if mu.ndim != 1 or not len(mu) or sigma.shape != (len(mu), len(mu)):
        raise ValueError(f"{path}: mu {mu.shape} and sigma {sigma.shape} do not fit; allowed: (C,) and (C, C)")
    scale = max(float(np.abs(sigma).max()), float(np.finfo(sigma.dtype).tiny))
    if np.abs(sigma - sigma.T).max() > ROUNDING * scale:
        raise ValueError(f"{path}: sigma is not symmetric, so it is not a covariance")
    lowest = float(np.linalg.eigvalsh(sigma.astype(np.float64))[0])
    if lowest < -ROUNDING * scale:
        raise ValueError(f"{path}: sigma is not a covariance: its lowest eigenvalue is {lowest:.3g}")
    return {"mu": mu, "sigma": sigma}


def _read_parquet(path: Path) -> tuple[Dataset, None]:
    from datasets import Dataset as Table
    from pyarrow import ArrowInvalid, parquet
    from pyarrow.types import is_binary, is_struct

    # Read here, not by the library's loader: its cache on disk outlives the run and goes by a file's name and date.
    try:
        table = Table(parquet.read_table(path))
    except (ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from None
    images = TableImages(_with_image_column(table), path)
    column = images.table.data.column(0)
    # `datasets` would fetch an image that is given by its path or URL
    embedded = "bytes" in [field.name for field in column.type] if is_struct(column.type) else is_binary(column.type)
    missing = 0 if not embedded else _without_bytes(column)
    if not embedded or missing:
        rows = f"{missing} of {len(column)} rows" if embedded else "the rows"
        raise ValueError(
            f"{path}: {rows} of {images.column} have no image, only its path or URL; allowed: images within the file"
        )
    return images, None


def _with_image_column(table):
    """A table of another library than `datasets`, without its marks: the one column of files is that of the images."""
    from datasets import Image

    if any(isinstance(feature, Image) for feature in table.features.values()):
        return table
    files = [name for name in table.column_names if _holds_files(table.data.schema.field(name).type)]
    return table.cast_column(files[0], Image()) if len(files) == 1 else table


def _holds_files(kind) -> bool:
    """Whether a column's type is that of files: their bytes, or a record of bytes and path."""
    from pyarrow.types import is_binary, is_struct

    if is_struct(kind):
        fields = {field.name: field.type for field in kind}
        return fields.keys() <= {"bytes", "path"} and is_binary(fields.get("bytes"))
    return is_binary(kind)


def _without_bytes(column) -> int:
    """Number of rows whose image is not within the table."""
    from pyarrow.types import is_struct

    if is_struct(column.type):
        return sum(chunk.flatten()[chunk.type.get_field_index("bytes")].null_count for chunk in column.chunks)
    return column.null_count


def _parquet_class_names(path: Path) -> list[str]:
    if not path.is_file():
        return []
    import pyarrow.parquet
    from datasets import ClassLabel, Features

    schema = Features.from_arrow_schema(pyarrow.parquet.read_schema(path))
    labels = [feature for feature in schema.values() if isinstance(feature, ClassLabel)]
    return labels[0].names if len(labels) == 1 else []


def _read_imagefolder(path: Path) -> tuple[Dataset, None]:
    """All splits of an image folder as `datasets` understands one (sub-folders by split and class, archives)."""
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError

    disable_progress_bars()
    # the library's own cache would outlive a change of the images
    cache = tempfile.TemporaryDirectory(prefix="imagefolder-")
    # the library reads a path as a pattern: `real[1]` would be `real1`
    pattern = glob.escape(str(path.resolve()))
    try:
        table = load_dataset("imagefolder", data_dir=pattern, split="all", cache_dir=cache.name)
    except (DatasetsError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an imagefolder: {' '.join(str(error).split())}") from None
    images = TableImages(table, path)
    images.cache = cache  # removed with the images
    return images, None


FORMATS = (
    Format("folder", "a folder of images (PNG, JPEG, WebP, BMP, TIFF and others)", _read_folder, Path.is_dir),
    Format(
        "npz",
        "an .npz of images, uint8 (N, H, W, 3), or of the statistics mu and sigma",
        _read_npz,
        lambda path: path.is_file() and path.suffix.lower() == ".npz",
    ),
    Format(
        "parquet",
        "a .parquet file with an image column, parquet:PATH (a file or a folder of them)",
        _read_parquet,
        lambda path: path.is_file() and path.suffix.lower() == ".parquet",
        _parquet_class_names,
    ),
    Format("imagefolder", "imagefolder:PATH", _read_imagefolder),
)
HELP = f"real images of one size: {'; '.join(kind.help for kind in FORMATS)}; {BUNDLED}; none"
