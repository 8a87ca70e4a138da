"""Features of a reference are extracted once; never are those of other images taken."""

import os

import numpy as np
import pytest
import torch
import torch_fidelity.utils
from PIL import Image
from torch.utils.data import Subset

from eval.metrics.features import cache as kept_features
from eval.metrics.features.cache import Kept
from eval.metrics.features.extraction import extract
from eval.metrics.features.extractors import BUNDLED_EXTRACTOR
from eval.metrics.features.networks import weights_digest
from eval.metrics.images.formats import BUNDLED, open_images

NETWORK = {"feature_extractor": BUNDLED_EXTRACTOR}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SDVAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def folder(tmp_path):
    """Four images of 32 x 32."""
    path = tmp_path / "real"
    path.mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(path / f"{i}.png")
    return path


@pytest.fixture
def no_network(monkeypatch):
    """Whoever extracts fails."""

    def forbid(*args, **kwargs):
        raise AssertionError("extracted")

    return lambda: monkeypatch.setattr(torch_fidelity.utils, "get_featuresdict_from_dataset", forbid)


def test_the_bundled_ones_are_those_of_the_bundled_images(no_network):
    some = range(0, 10_000, 100)
    fresh = extract(Subset(open_images(BUNDLED), some), **NETWORK)
    no_network()
    kept = extract(BUNDLED, **NETWORK, keep=True)
    assert kept.images == 10_000 and kept.layers.keys() == fresh.layers.keys()
    for name, features in fresh.layers.items():
        assert torch.allclose(kept.layers[name][list(some)], features, atol=1e-4)


def test_a_second_command_extracts_nothing(folder, cache, no_network):
    first = extract(folder, **NETWORK, keep=True)
    no_network()
    second = extract(folder, **NETWORK, keep=True)
    assert all(torch.equal(first.layers[name], second.layers[name]) for name in first.layers)
    assert np.array_equal(first.statistics["sigma"], second.statistics["sigma"])
    with pytest.raises(AssertionError, match="extracted"):
        extract(folder, **NETWORK)  # --no_cache


def test_without_asking_nothing_is_kept(folder, cache):
    extract(folder, **NETWORK)
    assert not cache.exists()


@pytest.mark.parametrize(
    "change", ["a pixel", "a name", "an image more", "the order", "resizing", "weights", "network"]
)
def test_of_other_images_there_are_none(folder, cache, change):
    name, weights, resize = BUNDLED_EXTRACTOR, weights_digest(BUNDLED_EXTRACTOR), None
    before = Kept.of(folder, name, weights, resize)
    if change == "a pixel":
        pixels = np.array(Image.open(folder / "2.png"))
        pixels[0, 0, 0] ^= 1
        Image.fromarray(pixels).save(folder / "2.png")
    elif change == "a name":
        (folder / "2.png").rename(folder / "20.png")
    elif change == "an image more":
        (folder / "4.png").write_bytes((folder / "0.png").read_bytes())
    elif change == "the order":
        (folder / "0.png").rename(folder / "kept.png")
        (folder / "1.png").rename(folder / "0.png")
        (folder / "kept.png").rename(folder / "1.png")
    elif change == "network":
        name = "another"
    elif change == "resizing":
        resize = 16
    else:
        weights = "0" * 64
    after = Kept.of(folder, name, weights, resize)
    assert after.key != before.key and after.file != before.file


def test_links_and_pipes_in_a_folder_are_no_trouble(folder, cache):
    """A loop of links, a link to nothing, a pipe that nobody writes to."""
    (folder / "again").symlink_to(folder)
    (folder / "gone").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe")
    before = Kept.of(folder, BUNDLED_EXTRACTOR, "0" * 64, None)
    (folder / "again").unlink()
    (folder / "more").symlink_to(folder.parent / "elsewhere")
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere" / "0.png").write_bytes((folder / "0.png").read_bytes())
    assert Kept.of(folder, BUNDLED_EXTRACTOR, "0" * 64, None) != before


def test_a_damaged_file_is_made_again(folder, cache):
    first = extract(folder, **NETWORK, keep=True)
    (file,) = cache.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    second = extract(folder, **NETWORK, keep=True)
    assert torch.equal(first.of("fid"), second.of("fid")) and file.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_no_error(folder, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SDVAR_CACHE", str(tmp_path / "file"))
    assert extract(folder, **NETWORK, keep=True).images == 4
    assert "cannot be kept" in caplog.text and "SDVAR_CACHE" in caplog.text


def test_the_oldest_are_forgotten(folder, cache, monkeypatch):
    extract(folder, **NETWORK, keep=True)
    (file,) = cache.glob("*.safetensors")
    monkeypatch.setattr(kept_features, "LARGEST", file.stat().st_size)
    extract(folder, **NETWORK, resize=32, keep=True)
    (left,) = cache.glob("*.safetensors")
    assert left != file
