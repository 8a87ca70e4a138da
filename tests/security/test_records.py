"""Whatever a run's settings, config and sessions say: measuring and exporting end well or with one line."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval import export, fid, measure
from tests.security.finished import write_run

VALUES = (None, True, 0, -1, 10**12, 10**30, 0.5, math.nan, math.inf, "", "word", "9", [], [1], ["a"], [[]])
VALUES += ({}, {"a": 1}, {1: {}})
REMOVED = object()
FILES = ("settings.yaml", "config.yaml", "decoding.json")


def places(record: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where a value can be changed."""
    for key in record if isinstance(record, dict) else range(len(record)) if isinstance(record, list) else ():
        yield (*path, key)
        yield from places(record[key], (*path, key))


def changed(record: Any, path: tuple, value: Any) -> Any:
    record = copy.deepcopy(record)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    if value is REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return record


def read(file: Path) -> Any:
    return json.loads(file.read_text()) if file.suffix == ".json" else yaml.safe_load(file.read_text())


def write(file: Path, record: Any) -> None:
    text = json.dumps(record) if file.suffix == ".json" else yaml.safe_dump(record, sort_keys=False)
    file.write_text(text)


def outcome(main, capsys, *arguments: object) -> str:
    """What a command that fails says; empty if it succeeds."""
    try:
        main([*map(str, arguments)])
    except SystemExit:
        error = capsys.readouterr().err.splitlines()
        assert len(error) == 1 and "error: " in error[0], error
        return error[0]
    capsys.readouterr()
    return ""


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("count", [6, pytest.param(300, marks=pytest.mark.proof)])
@pytest.mark.one_in(2)
def test_a_changed_value_is_no_crash(name, count, tmp_path, capsys):
    out = write_run(tmp_path / "run", other={"kind": "speculative", "sampling": {"cfg": 4.0}, "draft": "a.pth"})
    texts = {file: (out / file).read_text() for file in FILES}
    record = read(out / name)
    changes = [(path, value) for path in places(record) for value in (*VALUES, REMOVED)]
    for number, (path, value) in enumerate(random.Random(name).sample(changes, min(count, len(changes)))):
        write(out / name, changed(record, path, value))
        said = outcome(measure.main, capsys, "--out", out, "--metrics", "none")
        assert bool(said) != (out / "metrics.json").exists(), (path, value, said)
        outcome(export.main, capsys, tmp_path / f"{number}.npz", "--out", out, "--arm", "other")
        (out / "metrics.json").unlink(missing_ok=True)
        for file, text in texts.items():
            (out / file).write_text(text)
    assert outcome(measure.main, capsys, "--out", out, "--metrics", "none") == ""


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("settings.yaml", "sdvar_run: 1\narms: {baseline: {}}\n", "labels: expected a list or a mapping, got nothing"),
        ("config.yaml", "metrics: {}", "metrics: expected text or a list or nothing, got a mapping"),
        ("config.yaml", "sampling: 1.5", "sampling: expected a mapping or nothing, got 1.5"),
        ("config.yaml", "repeats: 0", "repeats: expected an int >= 1, got 0"),
        ("config.yaml", "repeats: .nan", "expected text, numbers of 64 bits, lists and mappings, got nan"),
        ("config.yaml", "a: !!timestamp 2020-01-01", "got datetime.date(2020, 1, 1)"),
        ("config.yaml", "a: &a [*a]", "expected at most 2,000,000 values, got more"),
        ("config.yaml", "a: &a {b: 1}\nc: {<<: *a}", "cannot be read: could not determine a constructor"),
        pytest.param("config.yaml", "[" * 5_000, "cannot be read", id="deep YAML"),
        pytest.param("config.yaml", "a: 1" + "0" * 5000, "cannot be read", id="long number"),
        ("decoding.json", '{"sessions": 3}', "sessions: expected a list, got 3"),
        ("decoding.json", '{"sessions": [{"environment": {}}]}', "prepare: expected an int or a number, got nothing"),
        pytest.param("decoding.json", "[" * 100_000, "cannot be read", id="deep JSON"),
    ],
)
def test_a_damaged_record_is_named(name, text, message, tmp_path, capsys):
    out = write_run(tmp_path / "run")
    (out / name).write_text(text)
    said = outcome(measure.main, capsys, "--out", out)
    assert f"{out / name}" in said and message in said


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("settings.yaml", "contains no run"),
        ("config.yaml", "expected at most 100,000,000 bytes"),
        ("decoding.json", "expected at most 100,000,000 bytes"),
        ("baseline/manifest.csv", "expected at most 2,000,000,000 bytes"),
    ],
)
def test_a_file_of_a_terabyte_is_refused(name, message, tmp_path, capsys):
    out = write_run(tmp_path / "run")
    os.truncate(out / name, 2**40)  # sparse: it takes no room
    assert message in outcome(measure.main, capsys, "--out", out)


def test_a_run_that_is_continued_reads_its_records_as_carefully(pair_line, tmp_path, capsys):
    out = tmp_path / "run"
    line = [*pair_line, "--labels", "1", "--images_per_class", "1", "--accelerator", "cpu", "--threads", "1"]
    line += ["--metrics", "none", "--strategy", "Speculative", "--strategy.gamma", "2", "--out", str(out)]
    fid.main(line)
    for number, (name, path, value) in enumerate(
        [
            ("settings.yaml", ("arms", "baseline"), "text"),
            ("settings.yaml", ("arms", "baseline", "kind"), {"a": 1}),
            ("decoding.json", ("sessions", 0), "text"),  # of which times alone are lost
            ("decoding.json", ("sessions", 0, "environment"), REMOVED),
        ]
    ):
        copied = shutil.copytree(out, tmp_path / str(number))
        (copied / "baseline/000/000000.png").unlink()
        write(copied / name, changed(read(copied / name), path, value))
        assert bool(outcome(fid.main, capsys, *line[:-1], copied)) == (name == "settings.yaml")
