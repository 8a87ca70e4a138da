"""A folder of images as it lies on a disk: what is read, what is passed over, and what each kind of image means."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.cli.options import parse
from eval.metrics.images.formats import open_images, open_source

GREY = (10, 20, 30)


def picture(folder: Path, name: str = "a.png", colour=GREY, size=(8, 8), **options) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file, **options)
    return file


def colours(folder: Path) -> list[tuple[int, ...]]:
    return [tuple(image[:, 0, 0].tolist()) for image in open_images(folder)]


def test_hidden_and_system_files_are_passed_over_and_named(tmp_path, caplog):
    for name in ("b.png", "class 1/c.png"):
        picture(tmp_path, name)
    for name in (
        ".ipynb_checkpoints/a.png",
        "__MACOSX/a.png",
        ".thumbnails/a.png",
        "@eaDir/a.png",
        "class 1/.hidden.png",
    ):
        picture(tmp_path, name, (255, 0, 0))
    (tmp_path / "._b.png").write_bytes(b"\0\5\26\7 of macOS")
    (tmp_path / "Thumbs.db").write_bytes(b"of Windows")
    (tmp_path / "labels.csv").write_text("file,label\n")
    with caplog.at_level(logging.WARNING):
        assert colours(tmp_path) == [GREY, GREY]
    [record] = caplog.records
    skipped = "7 hidden (._b.png, .hidden.png, .ipynb_checkpoints, …), 1 no image (labels.csv)"
    assert record.getMessage() == f"{tmp_path}: 2 images; skipped: {skipped}"


def test_a_clean_folder_says_nothing(tmp_path, caplog):
    picture(tmp_path)
    open_images(tmp_path)
    assert not caplog.records


@pytest.mark.parametrize("name, words", [
    ("a.zip", "a.zip is an archive; unpack it and give the folder; allowed: a folder of images"),
    ("a.png", "a.png is one image; give a folder of them; allowed"),
    ("a.npy", "a.npy is not a set of images; allowed"),
    ("pages/data.arrow", "pages has no images, but tables such as data.arrow; write them with Dataset.to_parquet"),
    ("pages/0.parquet", "pages has no images, but tables such as 0.parquet; give parquet:"),
    ("pages/a.txt", "pages has no images"),
])  # fmt: skip
def test_what_lies_in_the_place_of_images(tmp_path, name, words):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.touch()
    with pytest.raises(ValueError, match=words):
        open_source(tmp_path / name.partition("/")[0])


@pytest.mark.parametrize("source, words", [
    ("bundle", "bundle does not exist; did you mean bundled"),
    ("https://example.com/a.npz", "https://example.com/a.npz is an address, and references are not downloaded"),
])  # fmt: skip
def test_a_reference_that_is_not_there(source, words):
    with pytest.raises(ValueError, match=words):
        open_source(source)


def test_an_npz_in_upper_case(tmp_path):
    with (tmp_path / "A.NPZ").open("wb") as file:
        np.savez(file, np.zeros((2, 8, 8, 3), np.uint8))
    assert len(open_images(tmp_path / "A.NPZ")) == 2


@pytest.mark.parametrize("suffix", ["png", "PNG", "webp", "bmp", "tif", "TIFF", "gif", "ppm", "tga", "apng", "jp2"])
def test_other_formats_of_pillow(tmp_path, suffix):
    picture(tmp_path, f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    assert colours(tmp_path) == [GREY]


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "jfif", "JPEG"])
def test_jpeg_by_any_name(tmp_path, suffix):
    picture(tmp_path, f"a.{suffix}", (64, 64, 64), format="JPEG")
    assert colours(tmp_path) == [(64, 64, 64)]


def test_links_to_folders_are_followed_once(tmp_path):
    picture(tmp_path / "elsewhere")
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "link" / "back").symlink_to(folder)
    assert colours(folder) == [GREY]


FOREIGN = [
    "filename,label\na.png,3\n", "", "a.png", "\0\0\n\0", "file;index\n1;2", "index,file\n0,a.png\n",
    "index,file\nx,y\n", "index\n0\n",
]  # fmt: skip


@pytest.mark.parametrize("content", FOREIGN)
def test_a_foreign_manifest_is_ignored(tmp_path, content):
    picture(tmp_path)
    picture(tmp_path, "b.png")
    (tmp_path / "manifest.csv").write_text(content)
    assert len(open_images(tmp_path)) == 2


def test_a_manifest_that_is_a_folder(tmp_path):
    picture(tmp_path)
    (tmp_path / "manifest.csv").mkdir()
    assert len(open_images(tmp_path)) == 1


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    picture(tmp_path / "x.png")
    assert colours(tmp_path) == [GREY]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "y.png").mkdir()
    with pytest.raises(ValueError, match="empty has no images"):
        open_images(tmp_path / "empty")


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(ValueError) as caught:
        open_images(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_folder_without_images_says_what_is_in_it(tmp_path):
    (tmp_path / "0001").write_bytes(b"an image without a suffix")
    (tmp_path / ".thumbnails").mkdir()
    refused(tmp_path, "has no images; skipped: 1 hidden (.thumbnails), 1 no image (0001)")


def test_a_manifest_that_is_a_pipe_is_not_waited_for(tmp_path):
    picture(tmp_path)
    os.mkfifo(tmp_path / "manifest.csv")
    assert len(open_images(tmp_path)) == 1


@pytest.mark.parametrize("reference", ["", " "])
def test_an_empty_text_is_no_reference(reference):
    with pytest.raises(ValueError, match="reference: expected a path, bundled or none, got"):
        parse(["--reference", reference])


def test_damaged_files_are_one_line(tmp_path):
    file = picture(tmp_path)
    content = file.read_bytes()
    for data, words in (
        (b"", "a.png cannot be read: it is empty (0 bytes); remove it or copy it again"),
        (b"text", "a.png cannot be read: it is damaged or no image of a known format"),
        (content[:-30], "image file is truncated; remove it or copy it again"),
        (content[:40], "a.png cannot be read"),
    ):
        file.write_bytes(data)
        refused(tmp_path, words)


def saved(folder: Path, image: Image.Image, name: str = "a.png", **options) -> torch.Tensor:
    image.save(folder / name, **options)
    return open_images(folder)[0]


ORIENTATIONS = {1: "red", 2: "green", 3: "white", 4: "blue", 5: "red", 6: "blue", 7: "white", 8: "green"}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_the_orientation_of_a_camera_is_applied(tmp_path, orientation, suffix):
    """The corner that is seen at the upper left."""
    image = Image.new("RGB", (32, 48))
    for colour, corner in (("red", (0, 0)), ("green", (16, 0)), ("blue", (0, 24)), ("white", (16, 24))):
        image.paste(colour, (*corner, corner[0] + 16, corner[1] + 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = saved(tmp_path, image, f"a.{suffix}", exif=exif)
    assert tuple(pixels.shape[1:]) == ((48, 32) if orientation < 5 else (32, 48))
    wanted = torch.tensor(Image.new("RGB", (1, 1), ORIENTATIONS[orientation]).getpixel((0, 0)))
    assert (pixels[:, 4, 4].int() - wanted).abs().max() < 20


def test_damaged_exif_data_is_no_fault_of_the_image(tmp_path):
    assert saved(tmp_path, Image.new("RGB", (8, 8), GREY), exif=b"Exif\0\0II*\0\xff\xff\xff\xff").shape == (3, 8, 8)


MODES = {
    "1": (1, (255, 255, 255)),
    "L": (77, (77, 77, 77)),
    "LA": ((77, 0), (255, 255, 255)),
    "RGBA": ((10, 20, 30, 255), GREY),
    "CMYK": ((255, 0, 0, 0), (0, 255, 255)),
}


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_has_its_colours(tmp_path, mode):
    colour, seen = MODES[mode]
    pixels = saved(tmp_path, Image.new(mode, (8, 8), colour), "a.tif" if mode == "CMYK" else "a.png")
    assert tuple(pixels[:, 0, 0].tolist()) == seen


def test_a_palette_and_the_first_of_an_animation(tmp_path):
    first, second = (Image.new("RGB", (8, 8), colour).quantize(2) for colour in (GREY, (200, 0, 0)))
    assert saved(tmp_path, first)[:, 0, 0].tolist() == list(GREY)
    for suffix in ("gif", "png", "tiff"):
        folder = tmp_path / suffix
        folder.mkdir()
        assert saved(folder, first, f"a.{suffix}", save_all=True, append_images=[second])[:, 0, 0].tolist() == list(
            GREY
        )


@pytest.mark.parametrize("colour, transparency", [(5, 5), ((1, 2, 3), (1, 2, 3))])
def test_a_colour_that_stands_for_transparent_shows_white(tmp_path, colour, transparency):
    image = Image.new("L" if isinstance(colour, int) else "RGB", (8, 8), colour)
    assert saved(tmp_path, image, transparency=transparency).unique().tolist() == [255]


@pytest.mark.parametrize(
    "values", [np.full((8, 8), 40000, np.uint16), np.full((8, 8), 70000, np.int32), np.ones((8, 8), np.float32)]
)
def test_more_than_8_bits_of_grey_are_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")
    refused(tmp_path, "a.tif cannot be read: an image of mode", "expected 8 bits per channel: convert it first")


def test_other_sizes_offer_resizing(tmp_path):
    picture(tmp_path)
    picture(tmp_path, "b.png", size=(16, 24))
    images = open_images(tmp_path)
    with pytest.raises(ValueError, match=r"is 24 x 16, but the first is 8 x 8; .* --resize brings them"):
        list(images)
    resized = open_source(tmp_path, resize=8).images
    assert [tuple(image.shape) for image in resized] == [(3, 8, 8)] * 2
    assert torch.equal(resized[0], open_images(tmp_path)[0])


def adm_crop(picture: Image.Image, size: int) -> np.ndarray:
    """`center_crop_arr` of guided-diffusion, as it is there."""
    while min(*picture.size) >= 2 * size:
        picture = picture.resize(tuple(x // 2 for x in picture.size), resample=Image.BOX)
    scale = size / min(*picture.size)
    picture = picture.resize(tuple(round(x * scale) for x in picture.size), resample=Image.BICUBIC)
    arr = np.array(picture)
    crop_y, crop_x = (arr.shape[0] - size) // 2, (arr.shape[1] - size) // 2
    return arr[crop_y : crop_y + size, crop_x : crop_x + size]


@pytest.mark.parametrize("size", [(500, 375), (64, 64), (33, 97), (20, 90), (130, 128)])
def test_resizing_is_that_of_the_imagenet_references(tmp_path, size):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    noise.save(tmp_path / "a.png")
    found = open_source(tmp_path, resize=64).images[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, adm_crop(noise, 64))
