"""Write an arm of a finished run as one .npz, as OpenAI's evaluator of guided diffusion reads it."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from jsonargparse import ArgumentError

from eval.cli import options as fid_options
from lightning_modules.command_line import ArgumentParser

if TYPE_CHECKING:
    import numpy as np

    from lightning_modules.run.folder import RunFolder

DESCRIPTION = """Write an arm of a finished run as .npz: arr_0, the images as uint8 (N, H, W, 3), arr_1, their labels,
and index, which image of the run each is. The order is random, since OpenAI's evaluator takes the parts for its
Inception Score as they come; the seed is stored too. With --statistics mean (mu) and covariance (sigma) of the images'
features instead: a --reference of eval/fid.py. OpenAI's evaluator cannot use such a file, since it also asks for the
statistics of its spatial features (mu_s, sigma_s); give it the images."""
EXAMPLES = """examples:
  python eval/export.py --out runs/fid --arm speculative speculative.npz
  python eval/export.py --out runs/fid --arm baseline baseline_statistics.npz --statistics"""
BATCH = 64  # images in memory at a time


def build_parser() -> ArgumentParser:
    """The command line of `eval/export.py`."""
    parser = ArgumentParser(prog="eval/export.py", description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    add("file", type=str, help="the .npz to write; must not exist")
    add("--out", type=str, required=True, help="the run's folder")
    add("--arm", type=str, required=True, help="one of its arms")
    add("--seed", type=int, default=0, help="of the order of the images")
    add("--statistics", action="store_true", help="write mu and sigma of the images' features, for FID alone")
    add("--feature_extractor", type=str | None, help=fid_options.EXTRACTOR_HELP + " (that of the run)")
    add("--feature_extractor_weights", type=str | None, help="its weights file, where they should not be downloaded")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; see `python eval/export.py --help`."""
    try:
        options = build_parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    except ArgumentError as error:
        _stop(str(error))

    from eval.cli.finished_run import load_record

    try:
        file = Path(options.file)
        _check_target(file, options.seed)
        record = load_record(options.out)
        names = [arm.name for arm in record.arms]
        if options.arm not in names:
            raise ValueError(f"arm: {options.out} holds {', '.join(names)}; got {options.arm!r}")
        if options.statistics:
            text = write_statistics(record.folder, options.arm, file, **_network(options, record.folder.path))
        else:
            text = write_images(record.folder, options.arm, file, options.seed)
    except (ValueError, OSError) as error:
        _stop(str(error))
    print(f"{file}: {text}")


def _stop(message: str) -> NoReturn:
    print(f"eval/export.py: error: {message}", file=sys.stderr)
    sys.exit(2)


def _check_target(file: Path, seed: int) -> None:
    if file.suffix != ".npz":
        raise ValueError(f"file: expected a name that ends in .npz, got {file}")
    if file.exists():
        raise ValueError(f"file: {file} exists and is not overwritten; give another name or remove it")
    if not file.absolute().parent.is_dir():
        raise ValueError(f"file: there is no folder {file.absolute().parent}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: expected an int from 0 to 2^63 - 1, got {seed}")


def _network(options, out: Path) -> dict[str, str | None]:
    """The feature extractor that was asked for, else the run's own."""
    import yaml

    names = ("feature_extractor", "feature_extractor_weights")
    config = yaml.safe_load((out / "config.yaml").read_text()) if (out / "config.yaml").is_file() else {}
    if options.feature_extractor is None and not config.get("feature_extractor"):
        raise ValueError(f"feature_extractor: {out}/config.yaml names none; give --feature_extractor")
    source = options if options.feature_extractor is not None else config
    return {name: source.get(name) for name in names}


def write_images(folder: RunFolder, arm: str, file: Path, seed: int) -> str:
    """Streams an arm's images into an .npz; holds `BATCH` of them in memory.

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
    import numpy as np

    from eval.metrics.images import FileImages, UniformImages

    rows = sorted(folder.manifest(arm).read(), key=lambda row: int(row["index"]))
    order = np.random.default_rng(seed).permutation(len(rows))
    rows = [rows[position] for position in order]
    images = UniformImages(FileImages.of_rows(folder.path / arm, rows), str(folder.path / arm))
    _, height, width = images.shape
    shape = (len(rows), height, width, 3)
    needed, free = int(np.prod(shape)), shutil.disk_usage(file.absolute().parent).free
    if needed > free:
        raise ValueError(f"file: {file} will take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there")
    columns = {
        "arr_1": np.array([int(row["label"]) for row in rows]),
        "index": np.array([int(row["index"]) for row in rows]),
        "seed": np.array(seed),
    }
    # Not np.savez, which wants all images in one array; not compressed, as the evaluator reads the faster.
    with _whole_or_nothing(file) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as entry:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(entry, header)
            for start in range(0, len(rows), BATCH):
                batch = images.__getitems__(list(range(start, min(start + BATCH, len(rows)))))
                entry.write(np.stack([image.permute(1, 2, 0).numpy() for image in batch]).tobytes())
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
        feature_extractor, feature_extractor_weights: see `eval.metrics.features.extract`.

    Returns:
        What was written, in words.
    """
    import numpy as np

    from eval.metrics.features import extract

    features = extract(
        folder.path / arm,
        feature_extractor=feature_extractor,
        feature_extractor_weights=feature_extractor_weights,
    )
    if features.statistics is None:
        raise ValueError(f"{folder.path / arm} holds one image; a covariance needs at least 2")
    statistics: dict[str, np.ndarray] = {key: value.astype("float64") for key, value in features.statistics.items()}
    with _whole_or_nothing(file) as partial, partial.open("wb") as stream:
        np.savez(stream, **statistics)
    width = len(statistics["mu"])
    return f"mu and sigma of {width:,} features by {feature_extractor} of {features.images:,} images by {arm}"


@contextmanager
def _whole_or_nothing(file: Path):
    """A path to write to, which becomes `file` when the block ends well and vanishes when it does not."""
    partial = file.with_name(f".{file.name}.tmp")
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
