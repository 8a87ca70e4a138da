"""A run's folder that somebody touched: a command ends with one line or the same figures, and the run repairs it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eval import export, fid, measure
from lightning_modules.run.folder import RunFolder
from tests.security.test_records import outcome
from tests.security.test_signals import without_times

TABLES = ("baseline/manifest.csv", "speculative/batches.csv")


def lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Changes the lines of a table, the first of which is its header."""
    return lambda file: file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")


def cells(change: Callable[[int, list[str]], list[str]]) -> Callable[[Path], None]:
    return lines(lambda rows: [",".join(change(number, row.split(","))) for number, row in enumerate(rows)])


def data(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(change(file.read_bytes()))


def folder(file: Path) -> None:
    if file.exists():
        file.unlink()
    file.mkdir()


HARMLESS = {
    "foreign column": cells(lambda number, row: [*row, "x" if number else "note"]),
    "foreign column first": cells(lambda number, row: [str(number), *row]),
    "columns in another order": cells(lambda _, row: row[::-1]),
    "rows in another order": lines(lambda rows: [rows[0], *rows[:0:-1]]),
    "a row twice": lines(lambda rows: [*rows, rows[2]]),
    "quoted": cells(lambda _, row: [f'"{value}"' for value in row]),
    "byte order mark": data(lambda text: b"\xef\xbb\xbf" + text),
    "carriage returns": data(lambda text: text.replace(b"\n", b"\r\n")),
    "UTF-16": data(lambda text: text.decode().encode("utf-16")),
    "blank lines": data(lambda text: text.replace(b"\n", b"\n\n")),
    "no last line break": data(bytes.rstrip),
}
REPAIRED = {
    "empty": data(lambda text: b""),
    "no header": lines(lambda rows: rows[1:]),
    "a column is missing": cells(lambda _, row: [*row[:1], *row[2:]]),
    "no digests": cells(lambda _, row: row[:-1]),
    "a row twice, once edited": lines(lambda rows: [*rows, rows[2].replace("0", "1", 1)]),
    "a row is missing": lines(lambda rows: [*rows[:2], *rows[3:]]),
    "text for a number": data(lambda text: text.replace(b"\n1,", b"\none,")),
    "a huge number": data(lambda text: text.replace(b"\n1,", b"\n" + b"9" * 5000 + b",")),
    "NaN": data(lambda text: text.replace(b"\n1,", b"\nnan,")),
    "NUL bytes": data(lambda text: text[:400] + bytes(40) + text[440:]),
    "NUL bytes alone": data(lambda text: bytes(len(text))),
    "half": data(lambda text: text[: len(text) * 6 // 10]),
    "Latin-1": data(lambda text: text.replace(b"\n1,", b"\n\xe9,")),
    "semicolons": data(lambda text: text.replace(b",", b";")),
    "a quotation mark that stays open": data(lambda text: text.replace(b"\n1,", b'\n"1,')),
    "blanks": data(lambda text: text.replace(b",", b", ")),
    "a merge conflict": lines(lambda rows: ["<<<<<<< ours", *rows, "=======", ">>>>>>> theirs"]),
    "any bytes": data(lambda text: bytes(range(256)) * 9),
    "missing": Path.unlink,
}
ALWAYS = (
    "foreign column",
    "a row twice",
    "UTF-16",
    "no header",
    "half",
    "NUL bytes",
    "a row twice, once edited",
    "empty",
)


def some(damages: dict[str, Callable[[Path], None]]) -> list:
    return [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.proof) for name in damages]


@pytest.fixture(scope="module")
def line(pair_line) -> list[str]:
    line = [*pair_line, "--labels", "0-2", "--images_per_class", "4", "--batch_size", "5", "--accelerator", "cpu"]
    line += ["--threads", "1", "--metrics", "pairs", "--sampling.top_k", "0", "--sampling.top_p", "0"]
    return [*line, "--strategy", "Speculative", "--strategy.gamma", "2", "--out"]


@pytest.fixture(scope="module")
def finished(line, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    fid.main([*line, str(out)])
    return out


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def figures(out: Path) -> tuple[object, dict[str, bytes]]:
    arms = without_times(json.loads((out / "metrics.json").read_text())["arms"])
    return arms, {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*.png")}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", some(HARMLESS))
@pytest.mark.one_in(3)
def test_a_table_that_says_the_same_gives_the_same_figures(name, table, finished, run, tmp_path, capsys):
    HARMLESS[name](run / table)
    assert outcome(measure.main, capsys, "--out", run) == ""
    assert figures(run) == figures(finished)
    assert outcome(export.main, capsys, tmp_path / "a.npz", "--out", run, "--arm", "baseline") == ""


@pytest.mark.parametrize("column", ["label", "seed"])
def test_rows_of_other_images_are_noticed_and_made_again(column, line, finished, run, capsys):
    table = RunFolder(run).manifest("baseline")
    rows = table.read()
    rows[7] |= {column: str(int(rows[7][column]) + 1)}
    table.replace(rows)
    said = outcome(measure.main, capsys, "--out", run)
    assert f"{table.path}, index 7: {column}: expected " in said and "the command that began" in said
    assert outcome(fid.main, capsys, *line, run) == ""
    assert figures(run) == figures(finished)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", some(REPAIRED))
@pytest.mark.one_in(5)
def test_a_damaged_table_is_one_line_and_made_again(name, table, line, finished, run, tmp_path, capsys):
    REPAIRED[name](run / table)
    before = (run / "metrics.json").read_bytes()
    for said in (
        outcome(measure.main, capsys, "--out", run),
        outcome(export.main, capsys, tmp_path / "a.npz", "--out", run, "--arm", "baseline"),
    ):
        assert table.partition("/")[0] in said and "the command that began" in said
    assert (run / "metrics.json").read_bytes() == before
    assert outcome(fid.main, capsys, *line, run) == ""
    assert figures(run) == figures(finished)
    assert outcome(measure.main, capsys, "--out", run) == ""


def test_what_was_left_out_is_said(line, run, caplog):
    REPAIRED["text for a number"](run / TABLES[0])
    fid.main([*line, str(run)])
    warnings = [record.getMessage() for record in caplog.records if record.name == "sdvar.writer"]
    reason = "a line is not the run's and made again (line 3: index has the invalid value 'one')"
    assert warnings == [f"{run / TABLES[0]}: {reason}"]


@pytest.mark.parametrize(
    "name",
    ["baseline/manifest.csv", "speculative/batches.csv", "config.yaml", "metrics.json", "report.html", ".locks/rank0"],
)
def test_a_folder_in_a_files_place_is_refused_before_anything_is_decoded(name, line, run, capsys, monkeypatch):
    folder(run / name)
    assert str(run / name) in outcome(measure.main, capsys, "--out", run)
    monkeypatch.setattr("sdvar.decode", None)
    (run / "baseline/000/000001.png").unlink()
    said = outcome(fid.main, capsys, *line, run)
    assert f"{name}/ (1 in all); move them away" in said


@pytest.mark.parametrize("name", ["settings.yaml", "baseline/manifest.csv", "metrics.json"])
def test_a_pipe_in_the_place_of_a_finished_runs_file_is_not_waited_for(name, line, run, capsys):
    (run / name).unlink()
    os.mkfifo(run / name)
    assert outcome(fid.main, capsys, *line, run)
    assert outcome(measure.main, capsys, "--out", run)


@pytest.mark.parametrize("name", ["baseline/000", ".locks"])
def test_a_file_in_a_folders_place_is_refused(name, line, run, capsys):
    shutil.rmtree(run / name)
    (run / name).write_text("mine")
    assert outcome(measure.main, capsys, "--out", run)
    assert f"{name} (1 in all); move them away" in outcome(fid.main, capsys, *line, run)
    assert (run / name).read_text() == "mine"


@pytest.mark.parametrize("change", [data(lambda text: text[: len(text) // 2]), data(lambda text: b""), Path.unlink])
@pytest.mark.parametrize("name", ["decoding.json", "config.yaml"])
@pytest.mark.one_in(4)
def test_a_damaged_record_is_written_again(name, change, line, finished, run, capsys):
    change(run / name)
    said = outcome(measure.main, capsys, "--out", run, "--metrics", "pairs")
    assert not said or (str(run / name) in said and "the command that began" in said)
    (run / "speculative/000/000001.png").unlink()
    assert outcome(fid.main, capsys, *line, run) == ""
    assert figures(run) == figures(finished)


@pytest.mark.parametrize(
    "change", [data(lambda text: text[: len(text) // 2] + b"\n: ["), data(lambda text: b"\xff" + text)]
)
def test_settings_that_cannot_be_read_say_why(change, line, run, capsys):
    change(run / "settings.yaml")
    for said in (outcome(measure.main, capsys, "--out", run), outcome(fid.main, capsys, *line, run)):
        assert "contains no run" in said and str(run / "settings.yaml") in said and "put a copy of it back" in said


def test_rows_of_a_larger_run_are_not_counted(line, finished, run, tmp_path, capsys):
    larger = tmp_path / "larger"
    fid.main([*line[:-1], "--images_per_class", "5", "--out", str(larger)])
    capsys.readouterr()
    for name in ("manifest.csv", "batches.csv", "000"):
        source, target = larger / "baseline" / name, run / "baseline" / name
        shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copy(source, target)
    assert "manifest.csv, line 14: index 12 is none of the run's" in outcome(measure.main, capsys, "--out", run)
    for file in ("000012.png", "000013.png", "000014.png"):
        os.unlink(run / "baseline/000" / file)
    assert outcome(fid.main, capsys, *line, run) == ""
    assert figures(run) == figures(finished)
