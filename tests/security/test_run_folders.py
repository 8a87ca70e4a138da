"""A run's folder from somebody else: measuring it runs none of its code, and its tables are believed only if valid."""

import csv

import pytest
import torch
import yaml

from eval import measure
from eval.metrics.images.formats import open_images
from lightning_modules.run.finished import read_run
from lightning_modules.run.folder import RunFolder
from lightning_modules.run.formats.rows import read_rows
from lightning_modules.run.lock import RunLock
from tests.eval.metrics.images.test_untrusted_files import Payload
from tests.security.finished import write_run


def test_a_class_that_the_settings_name_is_not_imported(tmp_path, monkeypatch, capsys):
    mark = tmp_path / "mark"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Rule: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    acceptance = {"class_path": "evil.Rule"}
    evil = {"class_path": "evil.Rule", "init_args": {"acceptance": acceptance}, "kind": "rule", "text": "Rule()"}
    write_run(tmp_path / "run", other=evil)
    measure.main(["--out", "run"])
    assert (tmp_path / "run/report.html").is_file() and not mark.exists()
    capsys.readouterr()


@pytest.mark.parametrize("name", ["../outside", "/tmp", "metrics.json", "."])
def test_an_arm_is_read_below_the_runs_folder_alone(tmp_path, name):
    out = write_run(tmp_path / "run")
    settings = yaml.safe_load((out / "settings.yaml").read_text())
    settings["arms"] = {name: settings["arms"]["baseline"]}
    (out / "settings.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    with pytest.raises(ValueError, match=r"settings.yaml is damaged: arms: .* cannot name an arm"):
        read_run(out)


def test_settings_of_another_program_are_no_run(tmp_path):
    out = write_run(tmp_path / "run")
    settings = yaml.safe_load((out / "settings.yaml").read_text())
    del settings["sdvar_run"]
    (out / "settings.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match="contains no run"):
        read_run(out)


def test_another_batch_size_in_the_settings_is_noticed(tmp_path, refused):
    """Of as many batches, so that nothing is missing; but images per second would be others."""
    out = write_run(tmp_path / "run")
    settings = yaml.safe_load((out / "settings.yaml").read_text())
    (out / "settings.yaml").write_text(yaml.safe_dump(settings | {"batch_size": 6}, sort_keys=False))
    message = (
        "batches.csv, batch 0: images: expected 6, as batch_size in settings.yaml has it, got 4; put the batch_size"
    )
    assert message in refused(measure.main, ["--out", str(out)])


def test_weights_that_only_the_config_names_run_no_code(tmp_path, refused):
    out, mark = write_run(tmp_path / "run"), tmp_path / "mark"
    torch.save({"weight": Payload(mark)}, out / "weights.pth")
    config = yaml.safe_load((out / "config.yaml").read_text())
    config |= {"feature_extractor": "inception-v3-compat", "feature_extractor_weights": str(out / "weights.pth")}
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    assert "weights.pth does not hold the weights" in refused(measure.main, ["--out", str(out)])
    assert not mark.exists() and not (out / "metrics.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system ['touch mark']", "cannot be read"),
        ("[1, 2]", "expected a mapping, got a list"),
        ("feature_extractor: {a: 1}", "feature_extractor: expected text"),
        ("metrics: [fid, fidd]", "fidd"),
        ("a: [", "cannot be read"),
    ],
)
def test_an_invalid_config_is_one_line(tmp_path, monkeypatch, refused, text, message):
    monkeypatch.chdir(tmp_path)
    out = write_run(tmp_path / "run")
    (out / "config.yaml").write_text(text)
    assert message in refused(measure.main, ["--out", str(out)])
    assert not (tmp_path / "mark").exists()


def change(table, row, /, **values):
    """Edits a row of a table."""
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    rows[row] |= values
    with table.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("table", "values", "message"),
    [
        ("manifest", {"index": "0", "file": "000/000000.png"}, "index 0 is there twice"),
        ("manifest", {"file": "000/000000.png"}, "file is '000/000000.png', but image 1 is 000/000001.png"),
        ("manifest", {"file": "../../secret.png"}, "but image 1 is 000/000001.png"),
        ("manifest", {"file": "/etc/passwd"}, "but image 1 is 000/000001.png"),
        ("manifest", {"target_calls": "-3"}, "target_calls has the invalid value '-3'"),
        ("manifest", {"label": "9" * 400}, "label has the invalid value"),
        ("manifest", {"seed": "nan"}, "seed has the invalid value"),
        ("manifest", {"sha256": "0"}, "sha256 has the invalid value"),
        ("manifest", {"label": "0\0"}, "a NUL byte"),
        ("batches", {"seconds": "nan"}, "seconds has the invalid value"),
        ("batches", {"drafted_tokens": "1 x 0"}, "drafted_tokens has the invalid value"),
        (
            "manifest",
            {"target_calls": "2"},
            "the row is not as the run wrote it (its row_sha256 differs); give the command that began the run again",
        ),
        ("manifest", {"sha256": ""}, "not as the run wrote it"),
        ("batches", {"seconds": "0.5"}, "not as the run wrote it"),
        ("batches", {"accepted_scales": "9 0 0"}, "accepted_scales 9 0 0 is more than drafted_scales 4 4 0"),
    ],
)
def test_an_invalid_row_is_one_line_with_the_file_and_the_line(tmp_path, refused, table, values, message):
    out = write_run(tmp_path / "run")
    file, row = out / f"baseline/{table}.csv", 1 if table == "manifest" else 0
    change(file, row, **values)
    error = refused(measure.main, ["--out", str(out)])
    assert f"{file}, line {row + 2}: " in error and message in error
    assert not (out / "metrics.json").exists()


@pytest.mark.parametrize("names", [("batches.csv",), ("manifest.csv", "batches.csv", "000")])
def test_an_arm_is_not_taken_for_another(tmp_path, refused, names):
    out = write_run(tmp_path / "run", other={})
    for name in names:
        (out / "other" / name).rename(tmp_path / "moved")
        (out / "baseline" / name).rename(out / "other" / name)
        (tmp_path / "moved").rename(out / "baseline" / name)
    error = refused(measure.main, ["--out", str(out)])
    assert f"{out}/baseline/{names[0]}, line 2: the row is not as" in error


def test_a_row_of_an_interrupted_run_that_is_torn_or_edited_is_dropped(tmp_path):
    table = RunFolder(write_run(tmp_path / "run")).manifest("baseline")
    header, *lines = table.path.read_text().splitlines(keepends=True)
    table.path.write_text(header + lines[0])
    part = table.path.with_suffix(".rank0.csv")
    part.write_text(lines[1] + lines[2].replace(",3,", ",2,") + "\0\0\0\n\n" + lines[3][:-4])
    table.merge()
    assert table.path.read_text() == header + lines[0] + lines[1] and not part.exists()


def test_missing_columns_and_values_are_named(tmp_path):
    file = tmp_path / "manifest.csv"
    for text, message in (
        ("index,label\n0,1\n", "line 1: missing columns: file"),
        ("", "line 1: missing columns: index, file"),
        ("index,file\n0\n", "line 2: expected a value for each column"),
        ("index,file\n0,000/000000.png,5\n", "line 2: expected a value for each column"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_rows(file, ("index", "file"))
    file.write_bytes(b"index,file\n\xff,a\n")
    with pytest.raises(ValueError, match="expected text in UTF-8"):
        read_rows(file, ("index", "file"))


def test_a_reference_reads_no_file_outside_its_folder(tmp_path):
    out = write_run(tmp_path / "run")
    assert len(open_images(out / "baseline")) == 4
    change(out / "baseline/manifest.csv", 2, file="../../secret.png")
    with pytest.raises(ValueError, match="line 4: file is"):
        open_images(out / "baseline")


def test_a_second_measure_is_refused_while_the_first_one_writes(tmp_path, capsys):
    out = write_run(tmp_path / "run")
    with RunLock(out).held(), pytest.raises(SystemExit):
        measure.main(["--out", str(out)])
    assert "another run is writing to" in capsys.readouterr().err and not (out / "metrics.json").exists()
    measure.main(["--out", str(out)])
    assert (out / "metrics.json").is_file()
    RunFolder(out).lock.acquire(rank=0)  # it was given back


@pytest.mark.parametrize("name", [".locks", ".locks/rank0"])
def test_a_lock_that_is_a_link_is_refused(tmp_path, refused, name):
    out, target = write_run(tmp_path / "run"), tmp_path / "precious"
    if name == ".locks":
        target.mkdir()
    else:
        (out / ".locks").mkdir()
        target.write_text("mine")
    (out / name).symlink_to(target)
    error = refused(measure.main, ["--out", str(out)])
    assert f"{out / name} is a symbolic link" in error
    assert not list(target.iterdir()) if name == ".locks" else target.read_text() == "mine"


@pytest.mark.parametrize("text", ["{}", "[]", "3", pytest.param("[" * 100_000, id="deep"), '{"process": 1}'])
def test_a_lock_without_a_holder_is_still_a_lock(tmp_path, text):
    with RunLock(tmp_path).held():
        for name in ("rank0.json", "rankx.json"):
            (tmp_path / ".locks" / name).write_text(text)
        with pytest.raises(ValueError, match=r"another run is writing to .* \(rank 0\)"):
            RunLock(tmp_path).acquire(rank=0)
