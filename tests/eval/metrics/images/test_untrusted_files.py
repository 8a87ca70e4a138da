"""Files that somebody else made: none runs code, none is believed unchecked, and a path is one path."""

import os
import struct
import zipfile
import zlib

import datasets
import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from eval.metrics.features.extractors import BUNDLED_EXTRACTOR
from eval.metrics.features.networks import load_network
from eval.metrics.features.published import INCEPTION
from eval.metrics.images.formats import open_images, open_source


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.mark.parametrize("name", [INCEPTION, "vgg16", BUNDLED_EXTRACTOR])
def test_weights_do_not_run_code(tmp_path, name):
    mark = tmp_path / "mark"
    torch.save({"weight": Payload(mark)}, tmp_path / "weights.pth")
    torch.load(tmp_path / "weights.pth", weights_only=False)
    assert mark.exists(), "the payload works"
    mark.unlink()
    with pytest.raises(ValueError, match=f"weights.pth does not hold the weights of {name}"):
        load_network(name, tmp_path / "weights.pth")
    assert not mark.exists()


def save_statistics(file, mu=None, sigma=None):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 8))
    np.savez(
        file,
        mu=features.mean(0) if mu is None else mu,
        sigma=np.cov(features, rowvar=False) if sigma is None else sigma,
    )
    return file


def test_statistics_of_a_singular_covariance_are_read(tmp_path):
    features = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    sigma = np.cov(features, rowvar=False).astype(np.float32)
    assert open_source(save_statistics(tmp_path / "a.npz", sigma=sigma)).statistics["sigma"].shape == (8, 8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mu": np.full(8, np.nan)}, "mu has values that are not finite"),
        ({"sigma": np.full((8, 8), np.inf)}, "sigma has values that are not finite"),
        ({"mu": np.full(8, 1e200)}, "mu has values that are not finite, or beyond"),
        ({"sigma": np.eye(8) + 0j}, "sigma is complex128"),
        ({"mu": np.array(["a"] * 8)}, "mu is <U1"),
        ({"sigma": np.eye(8, dtype=bool)}, "sigma is bool"),
        ({"mu": np.array([Payload("nowhere")] * 8)}, "cannot be read as .npz"),
        ({"sigma": np.eye(7)}, "do not fit"),
        ({"sigma": np.triu(np.ones((8, 8)))}, "sigma is not symmetric"),
        ({"sigma": -np.eye(8)}, "its lowest eigenvalue is -1"),
    ],
)
def test_what_is_not_a_mean_and_a_covariance_is_refused(tmp_path, changed, message):
    file = save_statistics(tmp_path / "a.npz", **changed)
    with pytest.raises(ValueError, match=message):
        open_source(file)


@pytest.mark.parametrize("where", ["PATH", "https://example.invalid/a.png"])
def test_images_outside_a_parquet_file_are_refused(tmp_path, where):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    where = str(tmp_path / "secret.png") if where == "PATH" else where
    columns = datasets.Features({"image": datasets.Image()})
    storage = pyarrow.array([{"bytes": None, "path": where}], pyarrow.struct({"bytes": "binary", "path": "string"}))
    table = pyarrow.table({"image": storage}, schema=columns.arrow_schema)
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="1 of 1 rows of image have no image, only its path or URL"):
        open_images(tmp_path / "a.parquet")


@pytest.mark.parametrize("form", ["record", "bytes"])
def test_a_table_of_another_library_has_its_images_in_the_one_column_of_files(tmp_path, form):
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    images = [data] if form == "bytes" else [{"bytes": data, "path": None}]
    parquet.write_table(pyarrow.table({"image": images, "label": [3]}), tmp_path / "a.parquet")
    assert open_images(tmp_path / "a.parquet")[0][:, 0, 0].tolist() == [1, 2, 3]
    parquet.write_table(pyarrow.table({"image": images, "mask": images}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="must have one image column"):
        open_images(tmp_path / "a.parquet")


def test_a_path_is_not_a_pattern(tmp_path):
    columns = datasets.Features({"image": datasets.Image()})
    for name, level in (("real1", 10), ("real[1]", 20)):
        image = Image.new("RGB", (8, 8), (level, level, level))
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "a.png")
        table = datasets.Dataset.from_dict({"image": [image]}, features=columns)
        table.to_parquet(tmp_path / f"{name}.parquet")
    for source in ("imagefolder:{}/real[1]", "parquet:{}/real[1].parquet", "{}/real[1]", "{}/real[1].parquet"):
        images = open_images(source.format(tmp_path))
        assert len(images) == 1 and images[0].unique().tolist() == [20], source


def test_an_array_larger_than_the_memory_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("arr_0.npy", "w") as entry:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1000, 1000, 3)}
        np.lib.format.write_array_header_1_0(entry, header)
    with pytest.raises(ValueError, match=r"a\.npz does not fit into memory"):
        open_images(tmp_path / "a.npz")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) print\n%%EOF\n"


def large_png():
    """A PNG of 60,000 x 60,000 pixels in a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("data", [POSTSCRIPT, large_png()])
@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_an_image_runs_no_program_and_fills_no_memory(tmp_path, monkeypatch, kind, data):
    program, mark = tmp_path / "bin" / "gs", tmp_path / "mark"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    source = tmp_path / "images"
    source.mkdir()
    if kind == "folder":
        (source / "a.png").write_bytes(data)
    else:
        rows = datasets.Dataset.from_list([{"image": {"bytes": data, "path": None}}])
        source = source / "a.parquet"
        rows.cast_column("image", datasets.Image()).to_parquet(source)
    with pytest.raises(ValueError, match=r"image .* cannot be read"):
        open_images(source)
    assert not mark.exists()


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert len(open_images(tmp_path)) == 1
    (tmp_path / "manifest.csv").write_text("index,file\n0,000/000000.png\n")
    (tmp_path / "000").mkdir()
    os.mkfifo(tmp_path / "000" / "000000.png")
    with pytest.raises(ValueError, match=r"000000\.png is in its manifest but missing"):
        open_images(tmp_path)
