"""What an image's colours are where alpha hides one, and that depths beyond 8 bits are refused."""

import numpy as np
import pytest
from PIL import Image

from eval.metrics.images.formats import open_images


@pytest.mark.parametrize(("alpha", "level"), [(0, 255), (255, 10), (128, 132)])
def test_a_transparent_pixel_shows_white(tmp_path, alpha, level):
    Image.new("RGBA", (8, 8), (10, 10, 10, alpha)).save(tmp_path / "a.png")
    assert open_images(tmp_path)[0].unique().tolist() == [level]


def test_a_transparent_colour_of_a_palette_shows_white(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 10, 10])
    image.save(tmp_path / "a.png", transparency=1)
    assert open_images(tmp_path)[0].unique().tolist() == [255]


def test_16_bits_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png cannot be read: an image of mode I;16; expected 8 bits"):
        open_images(tmp_path)
