"""Sets of images for the metrics: a run's folder, any folder, `.npz`, Parquet, imagefolder, a data set in memory."""

from __future__ import annotations

import csv
import io
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_modules.run.folder import RunFolder
from lightning_modules.run.png import digest

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
ALLOWED = (
    "a folder of PNG or JPEG images, an .npz with uint8 images (N, H, W, 3) or with the statistics mu and sigma, "
    "a .parquet file with an image column, parquet:PATH (a file or a folder of them) or imagefolder:PATH"
)
READERS = min(8, os.cpu_count() or 1)  # threads that decode the image files of a batch


class UniformImages(Dataset):
    """Checks every image of a data set: uint8, (3, H, W), all of the first one's size.

    The data loader notices a foreign size only inside one batch, and a convolutional network takes any size.
    """

    def __init__(self, images: Dataset, name: str) -> None:
        if len(images) == 0:
            raise ValueError(f"{name} holds no images; allowed: {ALLOWED}")
        self.images, self.name = images, name
        self.shape = tuple(self._checked(0, images[0], None).shape)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self._checked(index, self.images[index], self.shape)

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A batch, for the data loader."""
        fetch = getattr(self.images, "__getitems__", None)
        images = fetch(indices) if fetch else [self.images[index] for index in indices]
        return [self._checked(index, image, self.shape) for index, image in zip(indices, images, strict=True)]

    def _checked(self, index: int, image: Tensor, shape: tuple[int, ...] | None) -> Tensor:
        where = f"image {index} of {self.name}"
        if not torch.is_tensor(image) or image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            got = f"{image.dtype} {tuple(image.shape)}" if torch.is_tensor(image) else type(image).__name__
            raise ValueError(f"{where} is {got}; allowed: a uint8 tensor (3, height, width)")
        if shape is not None and tuple(image.shape) != shape:
            raise ValueError(
                f"{where} is {image.shape[1]} x {image.shape[2]}, but the first is {shape[1]} x {shape[2]}; "
                "all images of a set must have one size: resize them first"
            )
        return image


class FileImages(Dataset):
    """Image files, read as RGB.

    Args:
        files: their paths.
        digests: the SHA-256 that each should have; empty where it is not known.
    """

    def __init__(self, files: list[Path], digests: list[str] | None = None) -> None:
        self.files = files
        self.digests = digests or [""] * len(files)

    @classmethod
    def of_rows(cls, arm: Path, rows: Iterable[Mapping[str, str]]) -> FileImages:
        """The images that rows of an arm's manifest list; those of earlier versions have no digest."""
        rows = list(rows)
        return cls([arm / row["file"] for row in rows], [row.get("sha256") or "" for row in rows])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        from PIL import Image, UnidentifiedImageError

        file, expected = self.files[index], self.digests[index]
        try:
            data = file.read_bytes()
            with Image.open(io.BytesIO(data)) as image:
                pixels = _to_tensor(image)
        except FileNotFoundError:
            raise ValueError(f"the image {file} is listed in its manifest but missing") from None
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"the image {file} cannot be read: {error}") from None
        if expected and digest(data) != expected:
            raise ValueError(
                f"the image {file} is not the one that the run wrote (its SHA-256 is not that of the manifest); remove "
                "it and run the command that made it again"
            )
        return pixels

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A batch, for the data loader: decoding leaves the other threads running."""
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(self.__getitem__, indices))


class ImagePairs(Dataset):
    """Images of two arms side by side, by index, each uint8 (3, H, W).

    Args:
        folder: of a finished run.
        arm: its name.
        other: the name of the arm to compare it with.

    Raises:
        ValueError: the arms do not have the same indices with the same labels and seeds.
    """

    def __init__(self, folder: RunFolder, arm: str, other: str = "baseline") -> None:
        rows = [{int(row["index"]): row for row in folder.manifest(name).read()} for name in (arm, other)]
        unpaired = [
            index
            for index in sorted(rows[0].keys() | rows[1].keys())
            if any(rows[0].get(index, {}).get(key) != rows[1].get(index, {}).get(key) for key in ("label", "seed"))
        ]
        if unpaired:
            raise ValueError(
                f"{folder.path}: {arm} and {other} differ in label or seed of {len(unpaired)} images (first: "
                f"{unpaired[0]}); only images of one label and seed can be compared pixel by pixel"
            )
        self.sides = []
        for name, by_index in zip((arm, other), rows):
            images = FileImages.of_rows(folder.path / name, (by_index[index] for index in sorted(by_index)))
            self.sides.append(UniformImages(images, str(folder.path / name)))
        self.shape = self.sides[0].shape

    def __len__(self) -> int:
        return len(self.sides[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(side[index] for side in self.sides)

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, ...]]:
        """A batch, for the data loader."""
        return list(zip(*(side.__getitems__(indices) for side in self.sides), strict=True))


class ArrayImages(Dataset):
    """Images of an array (N, H, W, 3) uint8."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.array[index]).permute(2, 0, 1).contiguous()


class TableImages(Dataset):
    """The image column of a table of `datasets`.

    Args:
        table: a `datasets.Dataset`.
        path: where it comes from.
    """

    def __init__(self, table, path: Path) -> None:
        from datasets import Image as ImageFeature

        columns = [name for name, feature in table.features.items() if isinstance(feature, ImageFeature)]
        if len(columns) != 1:
            raise ValueError(
                f"{path} must have one image column; it has {columns or 'none'} among {table.column_names}"
            )
        self.table, self.column = table.select_columns(columns), columns[0]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Tensor:
        return _to_tensor(self.table[index][self.column])

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A batch, for the data loader: several times faster than row by row."""
        return [_to_tensor(image) for image in self.table[indices][self.column]]


def _parquet(path: Path) -> Dataset:
    from datasets import Dataset as Table
    from pyarrow import ArrowInvalid, parquet

    # Read here, not by the library's loader: its cache on disk outlives the run and goes by a file's name and date.
    try:
        return TableImages(Table(parquet.read_table(path)), path)
    except (ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from None


def _imagefolder(path: Path) -> Dataset:
    """All splits of an image folder as `datasets` understands one (sub-folders by split and class, archives)."""
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError

    disable_progress_bars()
    cache = tempfile.TemporaryDirectory(prefix="imagefolder-")  # the library's own would outlive the images' change
    try:
        table = load_dataset("imagefolder", data_dir=str(path), split="all", cache_dir=cache.name)
    except (DatasetsError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an imagefolder: {' '.join(str(error).split())}") from None
    images = TableImages(table, path)
    images.cache = cache  # removed with the images
    return images


def _to_tensor(image) -> Tensor:
    """A PIL image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def _folder(path: Path) -> Dataset:
    """A folder's images; a run's folder (one with a manifest) holds what its manifest lists, and nothing left over."""
    manifest = path / "manifest.csv"
    if manifest.exists():
        with manifest.open(newline="") as lines:
            return FileImages.of_rows(path, csv.DictReader(lines))
    return FileImages(sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES))


def _load_npz(path: Path):
    """An open `.npz`; ValueError if it is none."""
    try:
        return np.load(path, allow_pickle=False)
    except (zipfile.BadZipFile, EOFError, ValueError):
        raise ValueError(f"{path} cannot be read as .npz; it is damaged or of another kind") from None


def _array(path: Path) -> Dataset:
    with _load_npz(path) as arrays:
        named = {name: arrays[name] for name in arrays.files if name in ("arr_0", "images")}
    if len(named) != 1:
        raise ValueError(f"{path} must hold the images under 'arr_0' or 'images'")
    (array,) = named.values()
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise ValueError(f"the images in {path} are {array.dtype} {array.shape}; allowed: uint8 (N, height, width, 3)")
    return ArrayImages(np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array)


def load_statistics(source: Path | str | Dataset) -> dict[str, np.ndarray] | None:
    """Reads the mean and covariance of a reference's features.

    Returns:
        {"mu": (C,), "sigma": (C, C)} if the source is an `.npz` that holds them, else None.

    Raises:
        ValueError: the shapes do not belong together.
    """
    if isinstance(source, Dataset) or Path(source).suffix != ".npz" or not Path(source).is_file():
        return None
    with _load_npz(source) as arrays:
        if not {"mu", "sigma"} <= set(arrays.files):
            return None
        mu, sigma = arrays["mu"], arrays["sigma"]
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(f"{source}: mu {mu.shape} and sigma {sigma.shape} do not fit; allowed: (C,) and (C, C)")
    return {"mu": mu, "sigma": sigma}


def holds_images(source: Path | str) -> bool:
    """Whether an `.npz` holds images, beside statistics or alone."""
    with _load_npz(Path(source)) as arrays:
        return not {"arr_0", "images"}.isdisjoint(arrays.files)


def split_source(source: Path | str) -> tuple[str | None, Path]:
    """`parquet:PATH` and `imagefolder:PATH` as kind and path; the kind is None for anything else."""
    kind, colon, path = str(source).partition(":")
    return (kind, Path(path)) if colon and kind in ("parquet", "imagefolder") else (None, Path(source))


def open_images(source: Path | str | Dataset) -> UniformImages:
    """Opens a set of images.

    Args:
        source: a folder of images (a folder with `manifest.csv` holds the images listed there), an `.npz` of images,
            a Parquet file, `parquet:PATH` (a file, or a folder of them), `imagefolder:PATH` (as `datasets` reads one),
            or a data set of uint8 tensors (3, H, W).

    Returns:
        A data set of uint8 tensors (3, H, W), all of one size.

    Raises:
        ValueError: the source is missing, empty or of another kind.
    """
    if isinstance(source, Dataset):
        return UniformImages(source, "the data set")
    kind, path = split_source(source)
    if kind and path.exists():
        images = {"parquet": _parquet, "imagefolder": _imagefolder}[kind](path)
    elif path.is_dir():
        images = _folder(path)
    elif path.is_file() and path.suffix == ".npz":
        images = _array(path)
    elif path.is_file() and path.suffix == ".parquet":
        images = _parquet(path)
    else:
        raise ValueError(f"{path} {'is no set of images' if path.exists() else 'does not exist'}; allowed: {ALLOWED}")
    return UniformImages(images, str(path))
