"""What runs and records the steps: verdicts, files, the end at the first failure and at the end of the time."""

import json
import logging
import threading

import pytest
import torch

from eval import first_contact
from eval.benchmarking import options as benchmark
from eval.contact import job
from eval.contact.bars import bars
from eval.contact.options import parse
from eval.contact.record import Record
from eval.contact.step import FAILED, SKIPPED, Outcome, Place, Step
from eval.contact.steps.table import BATCHES, GROUPS, TINY_GROUPS, command_of


@pytest.fixture
def record(tmp_path):
    return Record(tmp_path, "full")


def steps(*runs):
    return [Step(f"step_{number}", "something", run) for number, run in enumerate(runs, 1)]


def passing(place):
    return Outcome("all is well", facts={"number": 1})


def place(tmp_path, left=600.0):
    return Place(torch.device("cuda", 0), str(tmp_path), left=lambda: left)


def written(tmp_path):
    return json.loads((tmp_path / "first_contact.json").read_text()), (tmp_path / "first_contact.md").read_text()


def test_all_pass(tmp_path, record, capsys):
    def skipped(place):
        logging.getLogger("sdvar.kernels").warning("slower")
        return Outcome("one GPU", SKIPPED)

    assert job.run(steps(passing, skipped), place(tmp_path), record) == 0
    content, page = written(tmp_path)
    assert content["passed"] and content["finding"] is None and content["not_run"] == []
    assert [step["verdict"] for step in content["steps"]] == ["passed", "skipped"]
    assert content["steps"][0]["facts"] == {"number": 1}
    assert content["steps"][1]["warnings"] == ["slower"]
    assert "| step_2 | skipped | one GPU |" in page and "- step_2: slower" in page
    shown = capsys.readouterr().out
    assert "[1/2] step_1: something …" in shown and "passed in 0.0 s: all is well" in shown
    assert "please send both back" in shown


def test_the_first_failure_ends_the_run(tmp_path, record, capsys):
    def broken(place):
        raise RuntimeError("CUDA error:\nan illegal memory access")

    assert job.run(steps(passing, broken, passing), place(tmp_path), record) == 1
    content, page = written(tmp_path)
    assert (content["passed"], content["not_run"]) == (False, ["step_3"])
    assert content["finding"] == "RuntimeError: CUDA error: an illegal memory access"
    assert "in broken" in content["steps"][1]["facts"]["traceback"] and "in broken" in page
    assert "**Failed** at the step step_2" in page and "| step_3 | not run |  |" in page
    assert "FAILED at the step step_2: RuntimeError" in capsys.readouterr().out


def test_a_step_that_does_not_end_is_stopped_with_what_it_has_found(tmp_path, record):
    released, status = threading.Event(), []

    def hangs(place):
        record.note({"reports": []}, "one row")
        assert released.wait(30)
        return Outcome("too late")

    def end(code):
        status.append(code)
        released.set()

    job.run(steps(hangs), place(tmp_path, left=0.1), record, end)
    content, _ = written(tmp_path)
    assert status == [1]
    assert content["finding"] == "step_1 did not end within 10 minutes, and was stopped"
    assert content["steps"][0]["facts"] == {"reports": []} and content["steps"][0]["verdict"] == FAILED


def test_without_a_gpu_one_line_and_status_2(tmp_path, monkeypatch, refused):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    error = refused(first_contact.main, ["--out", str(tmp_path / "out")])
    assert error.startswith("eval/first_contact.py: error: expected a GPU, got none from torch ")
    assert not (tmp_path / "out").exists()


WRONG = {
    "--original /": "original: expected a checkout of the VAR code",
    "--out README.md": "out: expected a folder, got the file README.md",
    "--original CHECKOUT --size tiny": "original: expected --size full",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_option_is_one_clear_error(arguments, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").touch()
    with pytest.raises(ValueError, match=WRONG[arguments]):
        parse(arguments.replace("CHECKOUT", str(tmp_path)).split())


@pytest.mark.parametrize("group", [*GROUPS, *TINY_GROUPS], ids=lambda group: group.name)
def test_the_table_is_that_of_commands_of_the_benchmark(group, tmp_path):
    """Which anyone can run again."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").touch()
    given = Place(torch.device("cuda", 0), str(tmp_path), original=str(tmp_path))
    for batch in BATCHES:
        options = benchmark.parse(command_of(group, given, batch))
        assert options.batch_size == [batch] and options.precision == "bf16-true"
        assert bool(options.original) == group.original


def report(batch, seconds, **rows):
    """As the step `table` keeps it; a row is its speed over the baseline's, which takes twice its roofline."""
    baseline = {"name": "baseline", "roofline": {"latency_over_roofline": seconds}, "speed_relative_to_baseline": 1.0}
    results = [baseline, *({"name": name, "speed_relative_to_baseline": speed} for name, speed in rows.items())]
    return {"group": "d30", "batch_size": batch, "report": {"results": results}}


def test_bars():
    found = bars([
        report(1, 1.6, original_bf16_autocast=0.125, tail_6=1.0),
        report(8, 9.0),
        report(64, 2.0, original_bf16_autocast=0.5, tail_6=3.3, tail_8=1.9),
    ])  # fmt: skip
    assert {(bar.name.partition(": ")[2], bar.wanted, bar.measured, bar.met) for bar in found} == {
        ("time over the roofline", "≤ 1.7", "1.60", True),
        ("faster than original_bf16_autocast", "≥ 6", "8.00", True),
        ("share of the roofline's images per second", "≥ 0.55", "0.50", False),
        ("speed of tail_6", "≥ 3.2", "3.30", True),
        ("speed of tail_8", "≥ 2", "1.90", False),
    }
