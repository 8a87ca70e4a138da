"""What serves as a set of images, or as a reference: every kind gives the same metrics, what is unfit is named."""

import csv

import datasets
import numpy as np
import pytest
from PIL import Image

from eval.metrics.feature_metrics import measure_images as measure
from eval.metrics.features.extraction import extract
from tests.eval.metrics.blobs import Images, save_folder


def test_changed_images_in_the_same_folder_give_new_values(options, tmp_path):
    reference = extract(Images(60, seed=5), **options)
    folder = save_folder(Images(60, seed=1), tmp_path / "arm")
    before = measure(folder, reference=reference, **options)["frechet_distance_to_reference"]
    save_folder(Images(60, seed=1, brightness=0.2), tmp_path / "arm")
    after = measure(folder, reference=reference, **options)["frechet_distance_to_reference"]
    assert after > before + 1e-3


def test_every_kind_of_source_gives_the_same_metrics(options, tmp_path):
    images, reference = Images(120, seed=1), extract(Images(120, seed=2), **options)
    expected = measure(images, reference=reference, **options)
    folder = save_folder(images, tmp_path / "folder")
    np.savez(tmp_path / "images.npz", images.pixels.permute(0, 2, 3, 1).numpy())
    pictures = [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in images.pixels]
    columns = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict({"image": pictures, "label": list(range(120))}, features=columns)
    table.to_parquet(tmp_path / "images.parquet")
    (tmp_path / "shards").mkdir()
    for name, rows in (("a", range(70)), ("b", range(70, 120))):
        table.select(rows).to_parquet(tmp_path / "shards" / f"{name}.parquet")
    prefixed = [f"parquet:{tmp_path}/images.parquet", f"parquet:{tmp_path}/shards", f"imagefolder:{folder}"]
    for source in (folder, str(folder), tmp_path / "images.npz", tmp_path / "images.parquet", *prefixed):
        result = measure(source, reference=reference, **options)
        assert result.keys() == expected.keys() and result["warnings"] == expected["warnings"]
        for key in ("images", "inception_score_mean", "inception_score_std", "frechet_distance_to_reference"):
            assert result[key] == pytest.approx(expected[key], abs=1e-9), (source, key)


def test_statistics_serve_as_reference(options, tmp_path):
    ours, other = extract(Images(200, seed=1), **options), extract(Images(200, seed=2), **options)
    np.savez(tmp_path / "statistics.npz", **{key: value.astype(np.float64) for key, value in other.statistics.items()})
    expected = measure(ours, reference=other, **options)["frechet_distance_to_reference"]
    given = measure(ours, reference=tmp_path / "statistics.npz", **options)["frechet_distance_to_reference"]
    assert given == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="statistics only"):
        measure(tmp_path / "statistics.npz", **options)
    np.savez(tmp_path / "inception.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    with pytest.raises(ValueError, match="has statistics of 2048 features, but fashion-mnist-128 has 128"):
        measure(ours, reference=tmp_path / "inception.npz", **options)


def test_statistics_with_images_beside_them_serve_each_its_metric(options, tmp_path):
    """As in the reference batches of OpenAI's evaluator: statistics of all real images, and some of these images."""
    ours, whole, some = (extract(Images(120, seed=seed), **options) for seed in (1, 2, 3))
    pixels = Images(120, seed=3).pixels.permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "batch.npz", arr_0=pixels, arr_1=np.zeros(120), **whole.statistics)
    found = measure(ours, reference=tmp_path / "batch.npz", metrics=["fid", "kid", "prc"], **options)
    by_statistics = measure(ours, reference=whole, metrics=["fid"], **options)
    by_images = measure(ours, reference=some, metrics=["kid", "prc"], **options)
    for expected in (by_statistics, by_images):
        for key in set(expected) - {"warnings"}:
            assert found[key] == pytest.approx(expected[key], abs=1e-9), key
    assert "kernel_inception_distance_to_reference_mean" in by_images


def test_leftover_files_of_an_earlier_run_are_not_counted(options, tmp_path):
    folder = save_folder(Images(50), tmp_path / "arm")
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png"))
    with (folder / "manifest.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([("index", "file"), *enumerate(files[:30])])
    assert measure(folder, **options)["images"] == 30
    (folder / files[3]).unlink()
    with pytest.raises(ValueError, match=r"000003\.png is in its manifest but missing"):
        measure(folder, **options)


@pytest.mark.parametrize("position", [5, 100], ids=["in the first batch", "in the second"])
def test_mixed_sizes_are_named(options, tmp_path, position):
    folder = save_folder(Images(130), tmp_path / "mixed")
    Image.new("RGB", (64, 48)).save(folder / f"{position // 100:03d}" / f"{position:06d}.png")
    with pytest.raises(ValueError, match=f"image {position} of .* is 48 x 64, but the first is 32 x 32"):
        measure(folder, **options)


def test_unfit_sources_are_named(options, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no images")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "0.png").write_bytes(b"not a PNG")
    np.savez(tmp_path / "floats.npz", np.zeros((4, 32, 32, 3), np.float32))
    for source, message in (
        ("empty", "has no images"),
        ("notes.txt", "is not a set of images"),
        ("missing", "does not exist"),
        ("broken", "0.png cannot be read"),
        ("floats.npz", r"float32 \(4, 32, 32, 3\); allowed: uint8"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(tmp_path / source, **options)
    with pytest.raises(ValueError, match="fashion-mnist-128 measures 32 x 32 images, these are 64 x 64"):
        measure(Images(4, size=64), **options)
