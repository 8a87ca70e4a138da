"""Images of a user's own with the class of each: a folder with a sub-folder per class, or a Parquet file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from eval.metrics.images.folders import image_files
from eval.metrics.images.formats import open_source
from eval.metrics.images.sets import FileImages
from lightning_modules.data.class_lists import read_class_list

EXPECTED = "expected a folder with a sub-folder per class, or a .parquet file with the columns image and label"


class LabelledImages(NamedTuple):
    """N images.

    Attributes:
        images: uint8 (3, side, side) each, see `ResizedImages`.
        labels: int64 (N,).
        digest: of what was listed: another one where images were added or removed.
    """

    images: Dataset
    labels: np.ndarray
    digest: str


def open_labelled(path: Path, side: int, classes: int) -> LabelledImages:
    """Opens images; they are read when they are asked for.

    A sub-folder is named by what a class list calls a class: its number, its WordNet id or its ImageNet name.

    Args:
        path: of the folder or file.
        side: to which images are brought.
        classes: of the model; the labels are 0 to ``classes`` - 1.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    if path.is_dir():
        files, _ = image_files(path)
        if not files:
            raise ValueError(f"encode: {path} has no images; {EXPECTED}")
        names = [file.relative_to(path) for file in files]
        label_of = {folder: _label(path, folder, classes) for folder in sorted({name.parts[0] for name in names})}
        labels = [label_of[name.parts[0]] for name in names]
        images, listed = open_source(FileImages(files), side).images, [str(name) for name in names]
    elif path.is_file() and path.suffix == ".parquet":
        images, labels = open_source(path, side).images, _column(path, classes)
        listed = [str(path.stat().st_size)]
    else:
        raise ValueError(f"encode: {path} is neither; {EXPECTED}")
    lines = "\n".join([*listed, *map(str, labels)])
    return LabelledImages(images, np.array(labels), hashlib.sha256(lines.encode()).hexdigest())


def _label(path: Path, folder: str, classes: int) -> int:
    where = f"encode: {path / folder}"
    if not (path / folder).is_dir():
        raise ValueError(f"{where} is in no sub-folder; expected each image in one that is named by its class")
    try:
        listed = read_class_list([folder])
        listed.check_classes(classes)
    except ValueError as error:
        raise ValueError(f"{where}: expected a sub-folder named by its class; {error}") from None
    if len(listed.labels) != 1:
        raise ValueError(f"{where}: expected a sub-folder named by one class, got {len(listed.labels)}")
    return listed.labels[0]


def _column(path: Path, classes: int) -> list[int]:
    import pyarrow
    from pyarrow import parquet

    try:
        labels = parquet.read_table(path, columns=["label"])["label"].to_pylist()
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"encode: {path}: expected a column label: {' '.join(str(error).split())}") from None
    wrong = [label for label in labels if not (isinstance(label, int) and 0 <= label < classes)]
    if wrong:
        raise ValueError(f"encode: {path}: expected labels 0 to {classes - 1}, got {wrong[0]!r}")
    return labels
