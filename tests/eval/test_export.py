"""eval/export.py: one file with the run's own pixels and labels, in a recorded order."""

import csv

import numpy as np
import pytest
from PIL import Image

from eval import export, measure
from eval.metrics.images import openai_npz
from tests.eval.test_measure import metrics_of


def run(out, file, *arguments):
    export.main([str(file), "--out", str(out), *arguments])


def rows_of(out, arm):
    with (out / arm / "manifest.csv").open(newline="") as lines:
        return {int(row["index"]): row for row in csv.DictReader(lines)}


def test_images_and_labels_are_the_runs_in_a_recorded_order(decoded, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(openai_npz, "BATCH", 3)
    run(decoded, tmp_path / "a.npz", "--arm", "lossy", "--seed", "5")
    assert "20 images of 32 x 32 by lossy, in the order of seed 5" in capsys.readouterr().out
    with np.load(tmp_path / "a.npz") as arrays:  # without pickle, as a stranger would read it
        exported = {name: arrays[name] for name in arrays.files}
    assert list(exported) == ["arr_0", "arr_1", "index", "seed"]
    assert exported["arr_0"].dtype == np.uint8 and exported["arr_0"].shape == (20, 32, 32, 3)
    order = np.random.default_rng(int(exported["seed"])).permutation(20)
    assert exported["index"].tolist() == order.tolist() != list(range(20))
    rows = rows_of(decoded, "lossy")
    for image, label, index in zip(exported["arr_0"], exported["arr_1"], exported["index"]):
        np.testing.assert_array_equal(image, np.asarray(Image.open(decoded / "lossy" / rows[index]["file"])))
        assert label == int(rows[index]["label"])
    run(decoded, tmp_path / "b.npz", "--arm", "lossy", "--seed", "5")
    run(decoded, tmp_path / "c.npz", "--arm", "lossy")
    assert np.load(tmp_path / "c.npz")["index"].tolist() != order.tolist()
    np.testing.assert_array_equal(np.load(tmp_path / "b.npz")["arr_0"], exported["arr_0"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.npz", "b.npz", "c.npz"]


def test_the_header_is_the_one_that_streaming_readers_know(decoded, tmp_path):
    """They read the array from the archive member itself, a batch at a time, without numpy.load."""
    import zipfile

    run(decoded, tmp_path / "a.npz", "--arm", "baseline")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive, archive.open("arr_0.npy") as member:
        assert np.lib.format.read_magic(member) == (1, 0)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        assert (shape, fortran, dtype) == ((20, 32, 32, 3), False, np.uint8)
        assert len(member.read()) == np.prod(shape)


def test_an_export_of_either_kind_serves_as_reference(decoded, copied_run, tmp_path):
    """Both give the distance to the arm itself that the run has of its own images."""
    run(decoded, tmp_path / "images.npz", "--arm", "baseline")
    run(decoded, tmp_path / "statistics.npz", "--arm", "baseline", "--statistics")
    with np.load(tmp_path / "statistics.npz") as arrays:
        assert {name: arrays[name].shape for name in arrays.files} == {"mu": (128,), "sigma": (128, 128)}
    expected = metrics_of(decoded)["arms"]["lossy"]["frechet_distance_to_baseline"]
    for name in ("images", "statistics"):
        measure.main(["--out", str(copied_run), "--metrics", "fid", "--reference", str(tmp_path / f"{name}.npz")])
        arm = metrics_of(copied_run)["arms"]["lossy"]
        assert arm["frechet_distance_to_reference"] == pytest.approx(expected, abs=1e-3)


def test_an_export_keeps_a_batch_in_memory_and_not_the_file(tmp_path):
    import tracemalloc

    from lightning_modules.run.folder import RunFolder
    from tests.eval.metrics.pairing.test_pixels import write_arm

    write_arm(tmp_path, "baseline", np.zeros((600, 64, 64, 3), np.uint8))
    tracemalloc.start()
    openai_npz.write_images(RunFolder(tmp_path), "baseline", tmp_path / "a.npz", seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * (tmp_path / "a.npz").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["TMP/a.npz", "--arm", "nobody"], "one of baseline, speculative, lossy, baseline_reseeded, got 'nobody'"),
        (["TMP/a.npy", "--arm", "lossy"], "expected a name that ends in .npz"),
        (["TMP/taken.npz", "--arm", "lossy"], "taken.npz exists and is not overwritten"),
        (["TMP/nowhere/a.npz", "--arm", "lossy"], "nowhere does not exist; make it first"),
        (["TMP/a.npz", "--arm", "lossy", "--seed", "-1"], "seed: expected an int from 0"),
        (["TMP/a.npz", "--arm", "lossy", "--statistics", "--feature_extractor", "eyes"], "got 'eyes'"),
        (["TMP/a.npz"], "arm"),
    ],
)
def test_a_mistake_gets_one_clear_error(decoded, tmp_path, arguments, message, refused):
    (tmp_path / "taken.npz").write_text("a thesis")
    error = refused(export.main, [text.replace("TMP", str(tmp_path)) for text in arguments] + ["--out", str(decoded)])
    assert message in error
    assert [file.name for file in tmp_path.iterdir()] == ["taken.npz"]
    assert (tmp_path / "taken.npz").read_text() == "a thesis"


def test_incomplete_arms_and_full_disks_are_refused_and_nothing_is_left(copied_run, tmp_path, refused, monkeypatch):
    target = tmp_path / "exports"
    target.mkdir()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    assert "0.0 GB are free there" in refused(run, copied_run, target / "a.npz", "--arm", "lossy")
    monkeypatch.undo()
    image = copied_run / "lossy/000/000019.png"
    Image.new("RGB", (16, 16)).save(image)
    assert "000019.png is not the one that the run wrote" in refused(
        run, copied_run, target / "a.npz", "--arm", "lossy"
    )
    image.unlink()
    assert "lossy lacks 1 of 20 images (000/000019.png)" in refused(run, copied_run, target / "a.npz", "--arm", "lossy")
    assert not list(target.iterdir())
