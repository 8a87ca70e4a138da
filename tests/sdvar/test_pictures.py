"""A pair in a few words, on another device; its images as files."""

import numpy as np
import pytest
import torch
from PIL import Image

import sdvar


def test_images_are_written_as_they_were_decoded(pair, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    result = sdvar.decode(pair, [0, 3], [1, 2], sdvar.Baseline())
    expected = (result.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for given in (result, result.images, result.images.double()):
        files = pair.save_images(given, "~/new/folder")
        assert [file.name for file in files] == ["000000.png", "000001.png"]
        for file, image in zip(files, expected):
            with Image.open(file) as opened:
                assert opened.mode == "RGB" and (np.asarray(opened) == image).all()


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "floats \\(B, 3, H, W\\); got a tensor of torch.uint8"),
        (torch.zeros(3, 4, 4), "expected \\(B, 3, H, W\\), got \\(3, 4, 4\\)"),
        (torch.zeros(0, 3, 4, 4), "expected \\(B, 3, H, W\\), got \\(0, 3, 4, 4\\)"),
        ([1], "got list"),
        (sdvar.DecodeResult(None, [], None), "the result has none; decode with images=True"),
    ],
)
def test_what_is_no_image_is_named(images, error, tmp_path):
    with pytest.raises((TypeError, ValueError), match=error):
        sdvar.save_images(images, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("folder", ["", None, 3])
def test_what_is_no_folder_is_named(folder):
    with pytest.raises(ValueError, match=f"folder: expected the path of a folder, got {folder!r}"):
        sdvar.save_images(torch.zeros(1, 3, 4, 4), folder)


def test_a_pair_in_a_few_words(pair):
    text = repr(pair)
    assert text.startswith("ModelPair(draft VAR of depth 1 (float32, ") and "\n" not in text and len(text) < 240
    assert text.endswith("scales 1-2-3-4, 5 classes, on cpu)")


def test_a_pair_moves_and_a_device_that_is_not_there_is_a_value_error(pair, monkeypatch):
    assert pair.to("cpu") is pair and pair.device.type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1", "gpu", "mps:7"):
        for use in (pair.to, lambda device: sdvar.load_pair("tiny", device=device)):
            with pytest.raises(ValueError, match="device: expected "):
                use(device)
