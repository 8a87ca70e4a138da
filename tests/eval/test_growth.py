"""A run grows by further images where those that it has would be the same; it is then what a fresh run would be."""

import csv

import pytest

from eval import fid
from eval.metrics.run_config import read_config
from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.run.growth import growth_of

OPTIONS = """
    --sampling.top_k 0 --sampling.top_p 0 --batch_size 4 --threads 1 --accelerator cpu --metrics none
    --strategy Speculative --strategy.gamma 2 --noise_floor
"""
COUNTS = ("batch", "drafted_tokens", "agreed_tokens", "drafted_scales", "accepted_scales", "accepted_rounds")


def content(run):
    """The images and tables of a run, without times."""
    tables = {}
    for file in sorted(run.glob("*/*.csv")):
        with file.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        columns = [name for name in rows[0] if file.stem == "manifest" or name in COUNTS]
        tables[str(file.relative_to(run))] = [[row[name] for name in columns] for row in rows]
    return tables | {str(file.relative_to(run)): file.read_bytes() for file in run.rglob("*.png")}


@pytest.fixture
def command(pair_line):
    return [*pair_line, *OPTIONS.split()]


@pytest.mark.proof
def test_a_run_of_more_images_per_class_is_a_fresh_run(command, tmp_path, capsys):
    for number in ("1", "2", "5"):  # 3, 6 and 15 images in batches of 3 and 4
        fid.main([*command, "--labels", "0-2", "--images_per_class", number, "--out", str(tmp_path / "grown")])
    said = capsys.readouterr().out
    assert "grows from 3 to 6 images per arm" in said and "grows from 6 to 15 images per arm" in said
    fid.main([*command, "--labels", "0-2", "--images_per_class", "5", "--out", str(tmp_path / "fresh")])
    assert content(tmp_path / "grown") == content(tmp_path / "fresh")
    assert read_config(tmp_path / "grown" / "config.yaml")["images_per_class"] == 5


def test_a_list_of_images_grows_by_further_rows(command, tmp_path):
    rows = [f"{index},{index % 5},{100 + index}\n" for index in range(11)]
    for name, numbers in (("grown", (3, 11)), ("fresh", (11,))):
        for number in numbers:
            (tmp_path / "l.csv").write_text("index,label,seed\n" + "".join(rows[:number]))
            fid.main([*command, "--labels", str(tmp_path / "l.csv"), "--out", str(tmp_path / name)])
    assert content(tmp_path / "grown") == content(tmp_path / "fresh")


def settings(labels, number=1, batch_size=4, seed=0):
    return ClassLabelDataModule(labels, number, batch_size, seed).settings()


@pytest.mark.parametrize(
    ("earlier", "now", "images"),
    [
        (settings("0-9", 2), ("0-9", 3, 4), (20, 30)),
        (settings("0-9", 2), ("0-9", 2, 4), None),
        (settings("0-9", 3), ("0-9", 2, 4), None),
        (settings("0-9", 2), ("0-9", 3, 4, 1), None),  # other seeds
        (settings("0-9", 2), ("0-9", 3, 5), None),  # another batch size
        (settings("0-2", 1, 50), ("0-2", 9, 5), (3, 27)),  # which was cut to the images there were
        (settings("0-4", 1), ("0-9", 1, 4), None),  # other classes come first
        (settings([7, 7], 2), ([7, 7, 7], 2, 4), (4, 6)),  # more of one class: the same images first
    ],
)
def test_a_run_grows_only_where_its_images_stay(earlier, now, images):
    growth = growth_of(earlier, ClassLabelDataModule(*now))
    assert (growth and (growth.before, growth.after)) == images


def test_a_shorter_run_and_other_classes_are_refused(command, tmp_path, refused):
    fid.main([*command, "--labels", "0-2", "--images_per_class", "2", "--out", str(tmp_path / "run")])
    for options, error in (
        (["--labels", "0-2", "--images_per_class", "1"], "images_per_class: 2 in the folder, 1 now"),
        (["--labels", "0-3", "--images_per_class", "2"], "labels: [0, 1, 2] in the folder, [0, 1, 2, 3] now"),
    ):
        assert error in refused(fid.main, [*command, *options, "--out", str(tmp_path / "run")])
