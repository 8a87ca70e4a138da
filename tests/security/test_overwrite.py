"""`--overwrite` removes what the run wrote and nothing else; no link leads a run out of its folder."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from eval import fid
from lightning_modules.columns import MANIFEST_COLUMNS, PART_SECONDS, PER_IMAGE, PER_ROUND, PER_SCALE
from lightning_modules.run.folder import RunFolder
from lightning_modules.run.formats.rows import image_file
from lightning_modules.run.formats.tables import Table
from lightning_modules.run.plan import RunPlan
from lightning_modules.run.repairs import verify

ARM = {"class_path": "sdvar.Baseline", "text": "baseline"}
SETTINGS = {
    "arms": {"baseline": ARM, "hot": ARM},
    "labels": [0, 1, 2],
    "images_per_class": 400,  # indices up to 1199: two numbered folders
    "seed": 0,
    "batch_size": 600,
    "precision": "32-true",
    "device": "cpu",
}
ROW = {"label": 0, "seed": 0, **dict.fromkeys(PER_IMAGE, 0)}  # of a manifest, but for index and file
LEFT_OVER = ".{}.0123456789abcdef.tmp"  # a name of the atomic writer


def opened(path: Path, settings=SETTINGS, **how) -> RunFolder:
    folder = RunFolder(path)
    folder.open(settings, settings["arms"], **how)
    folder.lock.release()
    return folder


@pytest.fixture
def run(tmp_path) -> Path:
    """A run's folder with one of each kind of file, finished and interrupted."""
    folder = opened(tmp_path / "run")
    for arm in SETTINGS["arms"]:
        for index in (0, 999, 1000):
            file = folder.path / arm / image_file(index)
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"image")
        folder.manifest(arm).append(3, [{"index": 0, "file": image_file(0)}])
        (folder.path / arm / "000" / LEFT_OVER.format("000001.png")).write_bytes(b"half")
        (folder.path / arm / LEFT_OVER.format("batches.csv")).write_bytes(b"half")
    folder.write_tokens("baseline", 1, np.zeros((2, 3), np.int64))
    for name in ("config.yaml", "decoding.json", "metrics.json", "report.html", LEFT_OVER.format("report.html")):
        (folder.path / name).write_text("result")
    return folder.path


def contents(path: Path) -> dict[str, bytes | None]:
    return {
        str(file.relative_to(path)): file.read_bytes() if file.is_file() else None
        for file in sorted(path.rglob("*"))
        if ".locks" not in file.parts
    }


def refused(run: Path, message: str, **how) -> str:
    """The run's folder is refused in one line, and nothing in it or beside it has changed."""
    before = contents(run.parent)
    with pytest.raises(ValueError, match=message) as error:
        opened(run, **{"overwrite": True} | how)
    assert contents(run.parent) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def edit(run: Path, **changes) -> None:
    file = run / "settings.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))


def test_everything_that_a_run_wrote_is_removed(run):
    opened(run, SETTINGS | {"arms": {"baseline": ARM}, "seed": 1}, overwrite=True)
    assert sorted(contents(run)) == ["baseline", "baseline/batches.csv", "baseline/manifest.csv", "settings.yaml"]
    assert yaml.safe_load((run / "settings.yaml").read_text())["seed"] == 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("thesis.tex", "thesis.tex"),
        ("photos/1.png", "photos/"),
        ("hot/notes.txt", "hot/notes.txt"),
        ("hot/000/me.png", "hot/000/me.png"),
        ("hot/000/001001.png", "hot/000/001001.png"),  # an image of another sub-folder
        ("hot/001/001200.png", "hot/001/001200.png"),  # and one that the run does not have
        ("hot/002/1.png", "hot/002/"),
        ("hot/tokens/000002.zlib", "hot/tokens/000002.zlib"),
        ("baseline/tokens/000002.zlib", "baseline/tokens/000002.zlib"),
        ("baseline.npz", "baseline.npz"),
        (".locks/mine", ".locks/mine"),
        (LEFT_OVER.format("thesis.tex"), LEFT_OVER.format("thesis.tex")),
    ],
)
def test_what_the_run_did_not_write_stops_it_before_anything_is_removed(name, shown, run):
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("mine")
    assert f"what is not the run's: {shown} (1 in all)" in refused(run, "nothing was removed")


def test_the_error_names_the_first_and_counts_the_rest(run):
    for number in range(20):
        (run / f"letter{number:02d}.txt").write_text("mine")
    assert "letter00.txt, letter01.txt, letter02.txt, … (20 in all)" in refused(run, "nothing was removed")


@pytest.mark.parametrize("name", ["/tmp/elsewhere", "../precious", "..", ".", "a/b", "", "metrics.json"])
@pytest.mark.parametrize("how", [{"overwrite": True}, {"overwrite": False}, {"overwrite": False, "extend": True}])
def test_an_arm_that_could_not_be_given_is_not_believed(name, how, run):
    precious = run.parent / "precious"
    precious.mkdir()
    (precious / "manifest.csv").write_text("mine")
    edit(run, arms={"baseline": ARM, name: ARM})
    refused(run, "settings.yaml is damaged: arms: .* cannot name an arm", **how)


@pytest.mark.parametrize(
    "changes",
    [
        {"arms": ["baseline"]},
        {"arms": "baseline"},
        {"labels": 3},
        {"labels": {"index": "9-0"}},
        {"batch_size": 0},
        {"images_per_class": 10**40},
        {"arms": {"baseline": "text"}},
    ],
)
def test_damaged_settings_are_refused(changes, run):
    edit(run, **changes)
    refused(run, "settings.yaml is damaged")


@pytest.mark.parametrize(
    "text", ["arms: {photos: {}}\n", "- arms\n", "word", "sdvar_run: 2\narms: {}\n", "{", "", "a: [\ud800]"]
)
def test_the_settings_of_another_program_are_no_run(text, tmp_path):
    out = tmp_path / "app"
    (out / "photos").mkdir(parents=True)
    (out / "photos" / "1.png").write_bytes(b"mine")
    (out / "settings.yaml").write_bytes(text.encode(errors="surrogatepass"))
    for overwrite in (True, False):
        refused(out, "not empty and contains no run", overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_config_of_the_users_own_is_not_taken_over(overwrite, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").write_text("mine")
    refused(tmp_path / "out", "not empty and contains no run", overwrite=overwrite)


def test_a_run_that_was_killed_at_its_very_start_is_begun_again(tmp_path):
    (tmp_path / "run" / ".locks").mkdir(parents=True)
    (tmp_path / "run" / LEFT_OVER.format("settings.yaml")).write_text("half")
    opened(tmp_path / "run")
    assert LEFT_OVER.format("settings.yaml") not in contents(tmp_path / "run")


@pytest.mark.parametrize("name", ["hot", "hot/001", "hot/manifest.csv", "baseline/tokens", "config.yaml", ".locks"])
@pytest.mark.parametrize("how", [{"overwrite": True}, {"overwrite": False}, {"overwrite": False, "extend": True}])
def test_a_link_in_place_of_what_a_run_writes_is_refused(name, how, run):
    moved = run.parent / "bigger disk"
    (run / name).rename(moved)
    (run / name).symlink_to(moved)
    assert f": {name} (1 in all); to keep a run on another disk" in refused(run, "has links or pipes", **how)


@pytest.mark.parametrize(
    "name", ["hot/000/000000.png", "hot/manifest.csv", "baseline/tokens/000001.zlib", "config.yaml"]
)
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_pipe_in_place_of_a_file_is_refused_unread(name, overwrite, run):
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(ValueError, match=f"has links or pipes where .*: {name}"):
        opened(run, overwrite=overwrite)


def test_the_folder_itself_may_be_a_link(run):
    (run.parent / "link").symlink_to(run)
    opened(run.parent / "link", overwrite=True)
    assert not (run / "hot" / "000").exists()


def test_an_arm_is_not_added_over_a_folder_that_is_the_users(run):
    (run / "new").mkdir()
    (run / "new" / "manifest.csv").write_text("mine")
    more = SETTINGS | {"arms": SETTINGS["arms"] | {"new": ARM}}
    refused(run, "is not the run's, and an arm has that name", settings=more, overwrite=False, extend=True)


def test_what_cannot_be_removed_is_an_error_and_the_same_command_continues(run, monkeypatch):
    unlink = Path.unlink

    def stuck(path, *arguments, **options):
        if path.name == "000999.png":
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, *arguments, **options)

    folder = RunFolder(run)
    with monkeypatch.context() as patched, pytest.raises(ValueError, match=r"000999.png cannot be .*Permission denied"):
        patched.setattr(Path, "unlink", stuck)
        folder.open(SETTINGS | {"seed": 1}, ["baseline"], overwrite=True)
    folder.lock.release()
    with pytest.raises(ValueError, match="seed: 0 in the folder, 1 now"):  # the old images are not taken for new ones
        opened(run, SETTINGS | {"seed": 1})
    opened(run, SETTINGS | {"seed": 1}, overwrite=True)
    assert not list(run.rglob("*.png"))


@pytest.mark.parametrize("file", ["/etc/passwd", "../hot/000/000000.png", "000/000001.png", "../../precious.png"])
def test_a_row_names_the_file_that_the_run_wrote_for_it(file, tmp_path):
    folder = opened(tmp_path / "run")
    Table(tmp_path / "run" / "hot" / "manifest.csv", MANIFEST_COLUMNS).replace([ROW | {"index": 0, "file": file}])
    with pytest.raises(ValueError, match=r"but image 0 is 000/000000.png"):
        verify(folder, ["baseline", "hot"])


def test_tokens_are_believed_if_they_are_those_that_were_written(tmp_path):
    folder = opened(tmp_path / "run")
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    digest = folder.write_tokens("baseline", 0, tokens)
    folder.manifest("baseline").replace(ROW | {"index": index, "file": image_file(index)} for index in (0, 1))
    counts = dict.fromkeys((*PER_SCALE, *PER_ROUND), "0") | dict.fromkeys(PART_SECONDS, "0 0")
    folder.batches("baseline").replace([counts | {"batch": 0, "images": 2, "seconds": "1.5", "tokens_sha256": digest}])

    def travels() -> dict:
        plan = RunPlan.read(folder, ["baseline", "hot"], length=3)
        return plan.of_batch(0, torch.tensor([0, 1]), torch.tensor([True, True]))

    assert travels()["baseline_tokens"].tolist() == tokens.tolist()
    assert list(travels()["missing"]) == ["hot"]
    file = tmp_path / "run" / "baseline" / "tokens" / "000000.zlib"
    file.write_bytes(zlib.compress(bytes(12)))
    assert "baseline_tokens" not in travels()
    assert list(travels()["missing"]) == ["baseline", "hot"]  # the baseline decodes once more


def test_by_the_command(pair_line, tmp_path, capsys):
    line = [*pair_line, "--labels", "1", "--images_per_class", "1", "--batch_size", "1", "--accelerator", "cpu"]
    line += ["--threads", "1", "--metrics", "none", "--out", str(tmp_path / "run"), "--strategy", "Speculative"]
    line += ["--strategy.gamma", "2"]
    fid.main(line)
    (tmp_path / "run" / "speculative" / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        fid.main([*line, "--overwrite", "--seed", "1"])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and "not the run's: speculative/notes.txt (1 in all); move that away" in error
    assert contents(tmp_path) == before
    os.unlink(tmp_path / "run" / "speculative" / "notes.txt")
    fid.main([*line, "--overwrite", "--seed", "1"])
    assert contents(tmp_path) != before
