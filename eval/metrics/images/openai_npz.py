"""Writes an arm as one .npz, as OpenAI's evaluator of guided diffusion reads it; or the statistics of its features."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np

from eval.metrics.features.extraction import extract
from eval.metrics.images.sets import FileImages, UniformImages
from eval.metrics.progress import progress
from lightning_modules.run.contents import run_around
from lightning_modules.run.folder import RunFolder
from sdvar.system.atomic import replacing

BATCH = 64  # images in memory at a time


def check_target(file: Path, seed: int) -> None:
    """Checks what can be known before the run is read.

    Raises:
        ValueError: the file exists, lies in a run, cannot be there or has another ending, or the seed is invalid.
    """
    if file.suffix != ".npz":
        raise ValueError(f"file: expected a name that ends in .npz, got {file}")
    if file.exists():
        raise ValueError(f"file: {file} exists and is not overwritten; give another name or remove it")
    if not file.absolute().parent.is_dir():
        raise ValueError(f"file: the folder {file.absolute().parent} does not exist; make it first")
    run = run_around(file)
    if run:
        raise ValueError(
            f"file: {file} lies in the run {run}, which --overwrite would then refuse to remove; give a path beside "
            f"it, such as {run}_{file.name}"
        )
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: expected an int from 0 to 2^63 - 1, got {seed}")


def write_images(folder: RunFolder, arm: str, file: Path, seed: int) -> str:
    """Streams an arm's images into an .npz, `BATCH` of them at a time.

    Args:
        folder: of a complete run.
        arm: its name.
        file: to write; appears whole or not at all.
        seed: of the order, by `numpy.random.default_rng(seed).permutation`.

    Returns:
        What was written, in words.

    Raises:
        ValueError: an image cannot be read or has another size, or the disk has too little room.
    """
    rows = sorted(folder.manifest(arm).read(), key=lambda row: int(row["index"]))
    rows = [rows[position] for position in np.random.default_rng(seed).permutation(len(rows))]
    images = UniformImages(FileImages.of_rows(folder.path / arm, rows), str(folder.path / arm))
    _, height, width = images.shape
    shape = (len(rows), height, width, 3)
    needed, free = int(np.prod(shape)), shutil.disk_usage(file.absolute().parent).free
    if needed > free:
        raise ValueError(f"file: {file} takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there")
    columns = {
        "arr_1": np.array([int(row["label"]) for row in rows]),
        "index": np.array([int(row["index"]) for row in rows]),
        "seed": np.array(seed),
    }
    # Not np.savez, which wants all images in one array; not compressed, as the evaluator reads the faster.
    told = progress(len(rows), f"writing {file.name}", " images")
    with told, replacing(file) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as entry:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(entry, header)
            for start in range(0, len(rows), BATCH):
                batch = images.__getitems__(list(range(start, min(start + BATCH, len(rows)))))
                entry.write(np.stack([image.permute(1, 2, 0).numpy() for image in batch]).tobytes())
                told.update(len(batch))
        for name, values in columns.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, values)
    return f"{len(rows):,} images of {height} x {width} by {arm}, in the order of seed {seed}"


def write_statistics(
    folder: RunFolder, arm: str, file: Path, feature_extractor: str, feature_extractor_weights: str | None
) -> str:
    """Writes mean and covariance of the features of an arm's images, float64, as a reference of `eval/fid.py`.

    Args:
        folder: of a complete run.
        arm: its name.
        file: to write; appears whole or not at all.
        feature_extractor, feature_extractor_weights: see `eval.metrics.features.extraction.extract`.

    Returns:
        What was written, in words.

    Raises:
        ValueError: an image or the weights cannot be read, or there is one image only.
    """
    features = extract(
        folder.path / arm, feature_extractor=feature_extractor, feature_extractor_weights=feature_extractor_weights
    )
    if features.statistics is None:
        raise ValueError(f"{folder.path / arm} has one image; a covariance needs at least 2")
    statistics = {key: value.astype("float64") for key, value in features.statistics.items()}
    with replacing(file) as stream:
        np.savez(stream, **statistics)
    width = len(statistics["mu"])
    return f"mu and sigma of {width:,} features by {feature_extractor} of {features.images:,} images by {arm}"
