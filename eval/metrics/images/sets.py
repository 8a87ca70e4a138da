"""Data sets of images as uint8 tensors (3, H, W): of files, of an array, of a table, of two arms side by side."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import EpsImagePlugin, ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from eval.metrics.images.folders import formats
from lightning_modules.run.formats.png import digest

if TYPE_CHECKING:
    from lightning_modules.run.folder import RunFolder

EpsImagePlugin.gs_binary = False  # an image in PostScript is a program, which Pillow would give to Ghostscript
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # twice as many pixels are an error
UNREADABLE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)  # of Pillow
UPRIGHT = 1  # of the orientations in EXIF data
READERS = min(8, os.cpu_count() or 1)  # threads that decode the image files of a batch


class UniformImages(Dataset):
    """Checks every image of a data set: uint8, (3, H, W), all of the first one's size.

    The data loader notices another size only within a batch, and a convolutional network takes any size.
    """

    def __init__(self, images: Dataset, name: str) -> None:
        if len(images) == 0:
            raise ValueError(f"{name} has no images")
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
                "all images of a set must have one size; for a reference --resize brings them to the run's"
            )
        return image


class FileImages(Dataset):
    """Image files, read as RGB.

    Args:
        files: their paths.
        digests: the SHA-256 that each should have; empty where it is unknown.
    """

    def __init__(self, files: list[Path], digests: list[str] | None = None) -> None:
        self.files = files
        self.digests = digests or [""] * len(files)

    @classmethod
    def of_rows(cls, arm: Path, rows: Iterable[Mapping[str, str]]) -> FileImages:
        """The images that the rows of a manifest list, with their digests where it has them."""
        rows = list(rows)
        return cls([arm / row["file"] for row in rows], [row.get("sha256") or "" for row in rows])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        file, expected = self.files[index], self.digests[index]
        if not file.is_file():  # nor a pipe, which has no end
            raise ValueError(f"the image {file} is in its manifest but missing")
        try:
            data = file.read_bytes()
            with Image.open(io.BytesIO(data), formats=formats()) as image:
                pixels = to_tensor(image)
        except UNREADABLE as error:
            raise ValueError(f"the image {file} cannot be read: {_why(error, data)}") from None
        if expected and digest(data) != expected:
            raise ValueError(
                f"the image {file} is not the one that the run wrote (its SHA-256 differs from the manifest's); remove "
                "it and run the command that made it again"
            )
        return pixels

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A batch, for the data loader: decoding leaves the other threads running."""
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(self.__getitem__, indices))


class ResizedImages(Dataset):
    """Images brought to one size as the ImageNet references of OpenAI's guided-diffusion are (`center_crop_arr`).

    While the shorter side is at least twice the wanted one, both are halved (Pillow's BOX); then the shorter side is
    resized to it (BICUBIC), and the middle is cut out. An image of that size stays as it is.

    Args:
        images: uint8 tensors (3, H, W), of any sizes.
        side: of the results, (3, side, side).
    """

    def __init__(self, images: Dataset, side: int) -> None:
        self.images, self.side = images, side

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return center_crop(self.images[index], self.side)

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A batch, for the data loader."""
        fetch = getattr(self.images, "__getitems__", None)
        return [
            center_crop(image, self.side)
            for image in (fetch(indices) if fetch else map(self.images.__getitem__, indices))
        ]


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
        self.table, self.column, self.path = table.select_columns(columns), columns[0], path

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A batch, for the data loader: several times faster than row by row."""
        try:
            return [to_tensor(image) for image in self.table[indices][self.column]]
        except UNREADABLE as error:
            raise ValueError(f"an image of {self.path} cannot be read: {_why(error)}") from None


def center_crop(image: Tensor, side: int) -> Tensor:
    """An image uint8 (3, H, W) as (3, side, side), see `ResizedImages`."""
    if image.shape[1:] == (side, side):
        return image
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    while min(picture.size) >= 2 * side:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = side / min(picture.size)
    width, height = (max(side, round(length * scale)) for length in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return to_tensor(picture.crop((left, top, left + side, top + side)))


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except Exception:  # of damaged EXIF data, which an image need not have
        return UPRIGHT


def _why(error: Exception, data: bytes | None = None) -> str:
    if data == b"":
        return "it is empty (0 bytes); remove it or copy it again"
    if isinstance(error, UnidentifiedImageError):
        return "it is damaged or no image of a known format; remove it or copy it again"
    if isinstance(error, ValueError):  # of `to_tensor`, which says what to do
        return str(error)
    return f"{' '.join(str(error).split()) or type(error).__name__}; remove it or copy it again"


def to_tensor(image: Image.Image) -> Tensor:
    """A PIL image as uint8 (3, H, W), as it is meant to be seen.

    The orientation in its EXIF data is applied. Transparent pixels show white behind them. Palettes give their colours,
    grey and black-and-white images three equal channels; CMYK and YCbCr are converted by Pillow's formulas, without
    colour profiles. Of an animation or of several pages it is the first.

    Raises:
        ValueError: the image has more than 8 bits per channel (Pillow would clip them, not scale them), or is of a mode
            that has no colours in RGB.
    """
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"an image of mode {image.mode}; expected 8 bits per channel: convert it first")
    if _orientation(image) != UPRIGHT:
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
