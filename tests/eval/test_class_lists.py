"""Runs whose images a file lists one by one: made, continued, measured; and the names of ImageNet's classes."""

import csv
import json

import pytest
import yaml

from eval import fid, measure
from eval.cli.options import as_config, parse
from lightning_modules.data.class_names import imagenet_names
from lightning_modules.run.finished import read_run

LISTED = [6, 7, 8, 9, 10, 11, 18, 19]  # a whole batch of the other run and the end of it
OPTIONS = """
    --sampling.top_k 0 --sampling.top_p 0 --batch_size 6 --threads 1 --accelerator cpu --metrics pairs
    --strategy Speculative --strategy.gamma 2
"""


def rows_of(manifest):
    with manifest.open(newline="") as lines:
        return list(csv.DictReader(lines))


def write(file, rows, columns=("label", "seed", "index")):
    with file.open("w", newline="") as lines:
        table = csv.DictWriter(lines, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


@pytest.fixture
def command(pair_line, tmp_path):
    return [*pair_line, *OPTIONS.split(), "--labels", str(tmp_path / "images.csv"), "--out", str(tmp_path / "run")]


def test_a_manifest_makes_its_images_again_a_part_of_it_its_part(decoded, command, tmp_path, capsys, refused):
    rows = [row for row in rows_of(decoded / "baseline" / "manifest.csv") if int(row["index"]) in LISTED]
    write(tmp_path / "images.csv", reversed(rows))
    fid.main(command)
    for arm in ("baseline", "speculative"):
        ours, theirs = tmp_path / "run" / arm, decoded / arm
        assert [int(row["index"]) for row in rows_of(ours / "manifest.csv")] == LISTED
        files = {str(file.relative_to(ours)): file.read_bytes() for file in ours.rglob("*.png")}
        assert files == {row["file"]: (theirs / row["file"]).read_bytes() for row in rows}
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["arms"]["speculative"]["images"] == 8
    assert "images_per_class" not in metrics["config"]

    measure.main(["--out", str(tmp_path / "run"), "--metrics", "pairs"])
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["arms"] == metrics["arms"]
    lost = tmp_path / "run" / "speculative" / rows[-1]["file"]
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(ValueError, match=r"speculative lacks 1 of 8 images \(000/000019.png\)"):
        read_run(tmp_path / "run")
    fid.main(command)
    assert lost.read_bytes() == content

    rows[0]["seed"] = "77"
    write(tmp_path / "images.csv", rows)
    capsys.readouterr()
    error = refused(fid.main, command)
    assert "labels.seed_sha256: " in error and "label_sha256" not in error and "index" not in error


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--images_per_class", "3"], "expected none or 1, got 3"),
        (["--repeats", "2"], "repeats: "),
        (["--seed", "1"], "has a column seed; expected none or 0, got 1"),
        (["--labels", "volcano"], "labels: names are those of ImageNet, this model has 5 classes; give numbers"),
    ],
)
def test_an_option_that_does_not_go_with_the_labels_is_refused(command, options, error, tmp_path, refused):
    write(tmp_path / "images.csv", [{"label": 0, "seed": 1, "index": 0}])
    assert error in refused(fid.main, [*command, *options])
    assert not (tmp_path / "run").exists()


def test_a_file_of_classes_takes_the_default_number_of_images_and_one_of_images_none(tmp_path):
    for columns, number in ((("label",), 100), (("label", "seed"), None)):
        write(tmp_path / "l.csv", [{"label": 0, "seed": 1}], columns)
        config = as_config(parse(["--labels", str(tmp_path / "l.csv")]))
        assert config.get("images_per_class") == number


def test_the_label_that_differs_from_the_runs_is_named(decoded, pair_line, copied_run, refused):
    assert "labels[2]: 2 in the folder, 4 now" in refused(
        fid.main, [*pair_line, "--accelerator", "cpu", "--labels", "0,1,4,3,4", "--out", str(copied_run)]
    )


def test_images_of_a_thousand_classes_have_the_names_of_imagenet(copied_run):
    settings = yaml.safe_load((copied_run / "settings.yaml").read_text())
    assert (settings["patch_nums"], settings["num_classes"]) == ([1, 2, 3, 4], 5)
    (copied_run / "settings.yaml").write_text(yaml.safe_dump(settings | {"num_classes": 1000}))
    measure.main(["--out", str(copied_run), "--metrics", "none"])
    metrics = json.loads((copied_run / "metrics.json").read_text())
    assert metrics["class_names"] == imagenet_names()
    assert "inception_score_mean" not in metrics["arms"]["baseline"]  # none were asked for
    assert "great white shark" in (copied_run / "report.html").read_text()
