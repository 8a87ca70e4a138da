"""The benchmark by its real command, on pairs small enough to decode in milliseconds."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eval import benchmark
from eval.benchmarking.job import prepare
from eval.benchmarking.options import parse
from tests.paths import ROOT

SIZE = ["--threads", "1", "--accelerator", "cpu", "--warmup", "1"]
ARMS = ["--strategy", "fast=Speculative", "--strategy.gamma", "2", "--strategy", "Handoff", "--strategy.entry", "2"]


def run(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "eval" / "benchmark.py", *map(str, (*SIZE, *arguments))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if check:
        assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(autouse=True)
def threads_as_before():
    """The command sets the threads of the process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def measured(pair_line, tmp_path_factory) -> tuple[dict, subprocess.CompletedProcess]:
    """Two batch sizes of four scales, with simulated acceptance of the first drafted scale alone."""
    out = tmp_path_factory.mktemp("benchmark") / "results.json"
    result = run(
        *pair_line, *ARMS, "--batch_size", "1,3", "--repeats", "2", "--acceptance", "simulated:1,0,0,0", "--out", out
    )
    return json.loads(out.read_text()), result


def entries(measured, name: str) -> list[dict]:
    return [entry for entry in measured[0]["results"] if entry["name"] == name]


def test_every_strategy_is_measured_at_every_batch_size(measured):
    report, _ = measured
    assert [(entry["batch_size"], entry["name"]) for entry in report["results"]] == [
        (batch, name) for batch in (1, 3) for name in ("baseline", "fast", "handoff")
    ]
    assert report["environment"]["threads"] == 1
    assert len(report["environment"]["weights_sha256"]) == 3
    assert report["settings"]["repeats"] == 2
    assert report["ceilings"]["bytes_per_second"] > 0
    baseline, fast = (report["results"][i]["strategy"] for i in (0, 1))
    assert baseline == {"class_path": "sdvar.Baseline", "init_args": {"model": "target"}}
    rule = {"class_path": "eval.estimates.simulated.Simulated", "init_args": {"rates": [1, 0, 0, 0]}}
    assert fast["class_path"] == "sdvar.Speculative" and fast["init_args"]["acceptance"] == rule
    for entry in report["results"]:
        latency = entry["latency_seconds"]
        assert len(latency["runs"]) == 2
        assert 0 < latency["p10"] <= latency["median"] <= latency["p90"]
        assert entry["images_per_second"] == pytest.approx(entry["batch_size"] / latency["median"])
        assert entry["memory_bytes"]["peak"] > entry["memory_bytes"]["weights"] > 0


def test_parts_and_scales_add_up_to_the_whole(measured):
    for entry in measured[0]["results"]:
        parts = dict(entry["parts_seconds"])
        whole = parts.pop("whole")
        assert sum(parts.values()) == pytest.approx(whole)
        assert all(seconds >= 0 for seconds in parts.values())
        assert 0 < parts["rest"] < 0.5 * whole
        inside = parts["draft"] + parts["target"] + parts["sampling"]
        assert sum(entry["scales_seconds"]) + entry["conditioning_seconds"] == pytest.approx(inside)
        assert len(entry["scales_seconds"]) == 4
    assert entries(measured, "baseline")[0]["parts_seconds"]["draft"] == 0


def test_passes_are_those_of_the_strategies(measured):
    for entry in entries(measured, "baseline"):
        assert (entry["target_calls_mean"], entry["draft_calls_mean"]) == (3, 0)
        steps = entry["passes_of_the_first_run"]
        assert [(step["first"], step["last"]) for step in steps] == [(0, 0), (1, 2), (2, 3), (3, 4)]
        assert {step["rows"] for step in steps} == {2 * entry["batch_size"]}
    for entry in entries(measured, "fast"):
        # drafts 1, 2, verifies 1-3: scale 1 rejected; drafts 2, verifies 2-3: rejected; then scale 3
        assert entry["target_calls_mean"] == 3
        target = [step for step in entry["passes_of_the_first_run"] if step["model"] == "target"]
        assert [(step["first"], step["last"]) for step in target[1:]] == [(1, 4), (2, 4), (3, 4)]
    for entry in entries(measured, "handoff"):
        assert (entry["target_calls_mean"], entry["draft_calls_mean"]) == (2, 1)


def test_rooflines_are_sums_over_the_passes_that_ran(measured):
    ceilings = measured[0]["ceilings"]
    for entry in measured[0]["results"]:
        roofline, steps = entry["roofline"], entry["passes_of_the_first_run"]
        least = [
            max(
                step["bytes"] / ceilings["bytes_per_second"],
                step["operations"] / ceilings["operations_per_second"]["float32"],
            )
            for step in steps
        ]
        assert [step["roofline_seconds"] for step in steps] == pytest.approx(least)
        assert sum(least) + roofline["parts_seconds"]["tokenizer"] == pytest.approx(
            roofline["seconds"]
        )  # both runs alike
        assert roofline["latency_over_roofline"] == pytest.approx(
            entry["latency_seconds"]["median"] / roofline["seconds"]
        )


@pytest.mark.proof
def test_a_draft_made_of_the_target_takes_its_own_memory_and_bytes(pair_files, tmp_path):
    weights, out = {}, tmp_path / "results.json"
    for draft in ("target:int8", "target:first=2"):
        files = ["--draft", draft, "--target", str(pair_files["target"]), "--tokenizer", str(pair_files["tokenizer"])]
        speculative = ["--strategy", "Speculative", "--strategy.gamma", "2"]
        benchmark.main([*files, *SIZE, *speculative, "--batch_size", "1", "--out", str(out)])
        baseline, speculative = json.loads(out.read_text())["results"]
        weights[draft] = speculative["memory_bytes"]["weights"] - baseline["memory_bytes"]["weights"]
        steps = {step["model"]: step["bytes"] for step in speculative["passes_of_the_first_run"] if step["first"] == 0}
    matrices = 2 * 12 * 48**2
    assert weights["target:first=2"] < 0.1 * matrices < matrices < weights["target:int8"] < 2 * matrices
    assert steps["draft"] > 0


@pytest.mark.proof
def test_an_arm_has_a_draft_and_a_sampling_of_its_own(pair_line, tmp_path, monkeypatch, capsys):
    """Each model with its own memory, weights and dtype beside the roofline."""
    monkeypatch.setattr("eval.estimates.roofline.MATRIX_SIDE", {"cpu": 64})
    out = tmp_path / "results.json"
    arms = ["--strategy", "int8=Baseline", "--strategy.model", "draft", "--strategy.draft", "target:int8"]
    arms += ["--strategy", "half=Baseline", "--strategy.model", "draft", "--strategy.draft", "target:bf16"]
    arms += ["--strategy", "cold=Baseline", "--strategy.sampling.top_k", "1"]
    few = ["--batch_size", "1", "--repeats", "1", "--images", "false", "--out", str(out)]
    benchmark.main([*pair_line, *SIZE, *arms, *few])
    report = json.loads(out.read_text())
    rows = {row["name"]: row for row in report["results"]}
    assert rows["int8"]["draft"] == "target:int8" and rows["half"]["draft"] == "target:bf16"
    assert rows["cold"]["sampling"]["top_k"] == 1 and "draft" not in rows["baseline"]
    weights = {name: row["memory_bytes"]["weights"] for name, row in rows.items()}
    assert weights["int8"] < weights["half"] < weights["baseline"] == weights["cold"]
    moved = {name: rows[name]["passes_of_the_first_run"][1]["bytes"] for name in rows}
    assert moved["int8"] < moved["half"] < moved["baseline"]
    assert {"float32", "bfloat16"} == set(report["ceilings"]["operations_per_second"])
    assert "int8 (target:int8)" in capsys.readouterr().out


def test_a_simulated_speed_is_named_so_everywhere(measured):
    report, result = measured
    for entry in report["results"]:
        simulated = entry["name"] == "fast"
        assert ("simulated_speed_relative_to_baseline" in entry) == simulated
        assert ("speed_relative_to_baseline" in entry) == (not simulated)
    assert report["settings"]["simulated_acceptance"] == [1, 0, 0, 0]
    rows = [line for line in result.stdout.splitlines() if "fast" in line]
    assert sum("simulated" in row for row in rows) == 2  # per batch size in the table of speeds
    assert "simulated" not in "".join(line for line in result.stdout.splitlines() if "baseline" in line)


def test_results_are_on_stdout_and_progress_is_on_stderr(measured):
    _, result = measured
    assert "1/2 baseline" in result.stderr
    assert "attention by " in result.stderr
    assert "1/2 baseline" not in result.stdout
    assert "GFLOP/s float32" in result.stdout


def test_auto_takes_the_largest_batch_that_fits(monkeypatch):
    monkeypatch.setattr("eval.benchmarking.job.free_bytes", lambda device: 40 * 2**20)
    job = prepare(parse([*SIZE, "--batch_size", "auto", "--strategy", "Baseline"]))
    (batch,) = job.batch_sizes
    assert job.needed(batch) <= 40 * 2**20 < job.needed(2 * batch)


def test_running_out_of_memory_names_the_batch(monkeypatch, capsys):
    def run_out(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("eval.benchmarking.measuring.measure", run_out)
    with pytest.raises(SystemExit):
        benchmark.main([*SIZE, "--batch_size", "8", "--strategy", "Baseline"])
    assert re.search(r"batch_size: 8 ran out of memory.*; try 4", capsys.readouterr().err)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_launches_are_counted(tmp_path):
    out = tmp_path / "results.json"
    run("--accelerator", "cuda", "--graphs", "false", "--batch_size", "2", "--repeats", "1", "--out", out)
    report = json.loads(out.read_text())
    assert all(entry["kernel_launches_per_image"] > 100 for entry in report["results"])
    assert all(entry["parts_seconds"]["rest"] > 0 for entry in report["results"])
    assert "gpu" in report["environment"]
