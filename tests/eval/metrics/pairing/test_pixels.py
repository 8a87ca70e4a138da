"""eval.metrics.pairing.pixels: the values are torchmetrics' own, of images that belong together."""

import numpy as np
import pytest
import torch
from PIL import Image

from eval.metrics.images.sets import ImagePairs
from eval.metrics.pairing import pixels
from lightning_modules.columns import MANIFEST_COLUMNS, PER_IMAGE
from lightning_modules.run.folder import RunFolder
from lightning_modules.run.formats.tables import image_file

COUNT = 23


def compare(out, arm):
    return pixels.compute(ImagePairs(RunFolder(out), arm))[0]


def write_arm(out, name, images, *, order=None, seeds=None):
    """An arm's images and a manifest in any order."""
    rows = []
    for index, image in enumerate(images):
        file = out / name / image_file(index)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
        seed = index if seeds is None else seeds[index]
        row = dict.fromkeys(MANIFEST_COLUMNS, "") | dict.fromkeys(PER_IMAGE, 0)
        rows.append(row | {"index": index, "label": index % 5, "seed": seed, "file": image_file(index)})
    RunFolder(out).manifest(name).replace(rows if order is None else [rows[index] for index in order])


@pytest.fixture
def images():
    """Images and the same with noise of a strength that differs from image to image; five are equal."""
    rng = np.random.default_rng(0)
    ours = rng.integers(0, 256, (COUNT, 32, 32, 3)).astype(np.uint8)
    noise = rng.normal(0, 1, ours.shape) * np.arange(COUNT).clip(4)[:, None, None, None]
    noise[:5] = 0
    return ours, (ours + noise).clip(0, 255).astype(np.uint8)


def test_values_equal_a_direct_call_whatever_the_order_of_the_rows(tmp_path, images, monkeypatch):
    from torchmetrics.functional.image import peak_signal_noise_ratio
    from torchmetrics.image import StructuralSimilarityIndexMeasure

    monkeypatch.setattr(pixels, "BATCH", 4)
    ours, theirs = images
    write_arm(tmp_path, "lossy", ours, order=np.random.default_rng(1).permutation(COUNT))
    write_arm(tmp_path, "baseline", theirs)
    found = compare(tmp_path, "lossy")

    a, b = (torch.from_numpy(side).permute(0, 3, 1, 2).double() / 255 for side in images)
    psnr = [float(peak_signal_noise_ratio(x[None], y[None], data_range=1.0)) for x, y in zip(a[5:], b[5:])]
    ssim = StructuralSimilarityIndexMeasure(data_range=1.0)
    assert found["psnr_mean"] == pytest.approx(np.mean(psnr), rel=1e-5)
    assert found["ssim_mean"] == pytest.approx(float(ssim(a, b)), rel=1e-4)
    assert found["mean_absolute_difference"] == pytest.approx(float((a - b).abs().mean()), rel=1e-5)
    assert found["identical_images"] == 5


def test_equal_images_have_no_finite_psnr(tmp_path, images):
    for name in ("exact", "baseline"):
        write_arm(tmp_path, name, images[0])
    found = compare(tmp_path, "exact")
    assert found == {
        "identical_images": COUNT,
        "mean_absolute_difference": 0,
        "psnr_mean": None,
        "ssim_mean": pytest.approx(1),
    }


def test_images_of_other_seeds_are_refused(tmp_path, images):
    write_arm(tmp_path, "baseline", images[0])
    write_arm(tmp_path, "reseeded", images[1], seeds=[0, 1, *range(1000, 1000 + COUNT - 2)])
    with pytest.raises(ValueError, match=r"reseeded and baseline differ in label or seed of 21 images .first: 2"):
        compare(tmp_path, "reseeded")


def test_images_smaller_than_the_window_have_no_ssim(tmp_path, images):
    for name, side in zip(("lossy", "baseline"), images):
        write_arm(tmp_path, name, np.ascontiguousarray(side[:, :8, :8]))
    found = compare(tmp_path, "lossy")
    assert "ssim_mean" not in found and found["psnr_mean"] > 0
