"""The table and the command of the first contact, on simulated devices and in processes on the CPU."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from eval import first_contact
from eval.benchmarking import measuring
from eval.contact import job
from eval.contact.page import page
from eval.contact.record import Record
from eval.contact.step import PASSED, Place
from eval.contact.steps import processes, table
from eval.contact.steps.table import Group
from eval.estimates import roofline
from tests.eval.contact.test_steps import files, load


@pytest.fixture
def quick(monkeypatch):
    """Small ceilings, and no profiler, which waits for a driver."""
    monkeypatch.setattr(measuring, "_launches", lambda *of_run: 7)
    monkeypatch.setattr(roofline, "MATRIX_SIDE", {"cuda": 8})
    monkeypatch.setattr(roofline, "COPY_BYTES", {"cuda": 8})
    monkeypatch.setattr(roofline, "LEAST_SECONDS", 0.0)


@pytest.mark.usefixtures("cuda", "quick")
def test_rows_are_measured_and_what_is_left_out_is_said(tmp_path, monkeypatch):
    options = []
    for name, weights in files().items():
        save_file({key: value.contiguous() for key, value in weights.items()}, tmp_path / f"{name}.safetensors")
        options.append(f"--{name} {tmp_path}/{name}.safetensors")
    handoff = "--strategy handoff=Handoff --strategy.entry 2 --strategy.first target"
    groups = [Group("small", " ".join(options), handoff), Group("absent", "--pair tiny --draft target:none", handoff)]
    monkeypatch.setattr(table, "TINY_GROUPS", groups)
    monkeypatch.setattr(table, "TINY_BATCHES", (2, 10**9))
    record = Record(tmp_path, "tiny")
    place = Place(torch.device("cuda", 0), str(tmp_path), tiny=True, note=record.note)
    assert job.run([step for step in job.STEPS if step.name in ("environment", "table")], place, record) == 0
    content = json.loads((tmp_path / "first_contact.json").read_text())
    facts = content["steps"][1]["facts"]
    rows = [(row["batch_size"], row["name"]) for entry in facts["reports"] for row in entry["report"]["results"]]
    assert rows == [(2, "baseline"), (2, "handoff")]
    assert facts["left_out"][0].startswith("small, batch 1000000000: batch_size: ")
    assert [line.partition(":")[0] for line in facts["left_out"][1:]] == [f"absent, batch {n}" for n in (2, 10**9)]
    shown = (tmp_path / "first_contact.md").read_text()
    assert "| small | 2 | handoff | " in shown and "simulated, compute capability 9.0" in shown
    assert shown == page(content)
    assert f"python eval/benchmark.py --draft {tmp_path}" in shown


@pytest.mark.usefixtures("cuda")
def test_no_batch_is_begun_that_would_not_end_in_time(tmp_path):
    place = Place(torch.device("cuda", 0), str(tmp_path), tiny=True, left=lambda: 10.0)
    outcome = table.run(place)
    assert outcome.finding.startswith("nothing was measured: tiny, batch 1: no time was left; ")


def test_the_command_runs_its_steps_and_ends_with_their_status(cuda, tmp_path, monkeypatch):
    prepare, names = job.prepare, ("environment", "graphs")

    def with_small_pair(options):
        place, record = prepare(options)
        assert place.tiny and place.device == torch.device("cuda", 0) and 500 < place.left() < 600
        return dataclasses.replace(place, load=load), record

    monkeypatch.setattr(job, "prepare", with_small_pair)
    monkeypatch.setattr(job, "STEPS", [step for step in job.STEPS if step.name in names])
    assert first_contact.main(["--size", "tiny", "--out", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "first_contact.json").read_text())
    assert content["passed"] and [step["name"] for step in content["steps"]] == list(names)
    assert (tmp_path / "out" / "first_contact.md").is_file()


@pytest.mark.proof
def test_two_processes_write_what_one_decodes_and_a_command_that_fails_is_quoted(tmp_path, monkeypatch):
    """On the CPU, where they speak by gloo: other processes cannot see a simulated device."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    place = Place(torch.device("cpu"), str(tmp_path), processes="cpu")
    outcome = processes.run(place)
    assert outcome.verdict == PASSED, outcome.finding
    config = processes.config("out", "cpu", 1)
    config["data"]["init_args"]["labels"] = "0-99"
    monkeypatch.setattr(processes, "config", lambda *of_run: config)
    outcome = processes.run(place)
    assert "`lightning_modules predict` ended with 2: " in outcome.finding and "labels" in outcome.finding
