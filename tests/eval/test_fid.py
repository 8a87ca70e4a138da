"""The main job by its real command, on a pair small enough to decode in seconds."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import lightning_modules.__main__
from eval import fid
from eval.cli.options import as_config, parse
from lightning_modules.columns import ROW_DIGEST
from lightning_modules.run.lock import RunLock
from tests.paths import ROOT

ARMS = ["baseline", "speculative", "tail", "handoff", "baseline_reseeded"]
IMAGES = 20  # 5 classes x 4, in batches of 6: the last is filled up


def run(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess:
    result = subprocess.run(
        [sys.executable, ROOT / "eval" / "fid.py", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    if check:
        assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def finished(quick_job, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    out = tmp_path_factory.mktemp("fid") / "run"
    return out, run(*quick_job, "--out", out)


def made(out: Path) -> dict[str, bytes | list[str]]:
    """Images, manifests and batch statistics of a run: all that must not depend on time or on the processes."""
    files = {str(f.relative_to(out)): f.read_bytes() for f in sorted(out.rglob("*.png"))}
    files |= {str(f.relative_to(out)): f.read_bytes() for f in sorted(out.rglob("manifest.csv"))}
    for file in sorted(out.rglob("batches.csv")):
        with file.open(newline="") as lines:
            rows = csv.DictReader(lines)
            files[str(file.relative_to(out))] = [
                {name: value for name, value in row.items() if not name.endswith(("seconds", ROW_DIGEST))}
                for row in rows
            ]
    return files


def test_the_command_leaves_images_manifests_metrics_and_a_report(finished):
    out, _ = finished
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics["arms"]) == ARMS
    for name, arm in metrics["arms"].items():
        assert arm["images"] == IMAGES == len(list((out / name).rglob("*.png")))
        assert arm["feature_extractor"] == "fashion-mnist-128"
        assert arm["inception_score_mean"] >= 1 and arm["frechet_distance_to_reference"] > 0
        assert ("frechet_distance_to_baseline" in arm) == (name != "baseline")
        assert ("kernel_inception_distance_to_baseline_mean" in arm) == (name != "baseline")
        assert ("psnr_mean" in arm) == (name not in ("baseline", "baseline_reseeded"))
        assert ("token_agreement_with_baseline" in arm) == (name != "baseline_reseeded")
        assert len(arm["agreement_per_scale"]) == len(metrics["patch_nums"]) == 4
        assert arm["images_per_second"] > 0
    baseline, speculative, *_ = metrics["arms"].values()
    assert (baseline["target_calls_mean"], baseline["draft_calls_mean"]) == (3, 0)
    assert speculative["lossless"] and speculative["target_calls_mean"] <= 3
    assert speculative["seconds_of_class_prefix"] > 0
    assert speculative["arm"]["init_args"]["gamma"] == "auto"
    assert speculative["arm"]["resolved"]["init_args"]["gamma"] != "auto"
    assert metrics["arms"]["tail"]["target_calls_mean"] == 0  # it leaves three of the four scales to the draft
    assert metrics["arms"]["handoff"]["target_calls_mean"] == 1
    assert metrics["class_names"] is None  # the reference names 10 classes, these models have 5
    assert set(metrics["environment"]["weights_sha256"]) == {"draft", "target", "tokenizer"}
    assert "<html" in (out / "report.html").read_text()


def test_a_lossless_arm_differs_from_the_baseline_by_near_ties_alone(finished):
    arm = json.loads((finished[0] / "metrics.json").read_text())["arms"]["speculative"]
    assert arm["images_differing_from_baseline"] == arm["near_tie_images"]
    assert arm["token_agreement_with_baseline"] > 0.99


def test_results_go_to_stdout_and_there_is_no_progress_line_without_a_terminal(finished):
    _, result = finished
    assert all(re.search(rf"\b{arm}\b", result.stdout) for arm in ARMS)
    assert result.stdout.startswith("speculative: gamma 'auto' is Speculative(")
    assert "\ntail: gamma 'auto' is Speculative(" in result.stdout
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    assert ("speculative at batch size 1: " in result.stdout) == ("speculation_at_batch_1" in metrics)
    assert "warning" in result.stdout and "20 images" in result.stdout  # too few images for a 128-wide feature
    assert result.stderr == ""


def test_two_processes_make_the_same_bytes_as_one(finished, quick_job, tmp_path):
    """With what the first chose for gamma auto, which its config holds."""
    config = finished[0] / "config.yaml"
    result = run("--config", config, "--metrics", "none", "--devices", "2", "--out", tmp_path / "run")
    assert "gamma 'auto'" not in result.stdout
    ours, theirs = made(tmp_path / "run"), made(finished[0])
    assert len(ours) == len(ARMS) * (IMAGES + 2)
    assert ours == theirs


def test_a_run_with_holes_is_continued(finished, quick_job, tmp_path, capsys):
    out = shutil.copytree(finished[0], tmp_path / "run")
    before = made(out)
    metrics = json.loads((out / "metrics.json").read_text())
    (out / "handoff" / "000" / "000008.png").unlink()
    (out / "metrics.json").unlink()
    capsys.readouterr()
    fid.main([*quick_job, "--out", str(out)])
    images = sum(arm["images"] for arm in metrics["arms"].values())
    assert f"has {images - 1:,} of {images:,} images of all arms already" in capsys.readouterr().out
    assert made(out) == before
    again = json.loads((out / "metrics.json").read_text())
    assert again["arms"] == metrics["arms"]  # timings too: those of the first decode stay


@pytest.mark.proof
def test_fewer_images_than_processes_of_torchrun(quick_job, tmp_path):
    """One image, two processes: one of them has nothing to do, and the image is that of a process alone."""
    one = [*quick_job, "--labels", "3", "--images_per_class", "1", "--metrics", "none", "--strategy", "Speculative"]
    one += ["--strategy.gamma", "2"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", ROOT / "eval" / "fid.py"]
    result = subprocess.run(
        [*torchrun, *one, "--devices", "2", "--out", tmp_path / "two"], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    fid.main([*one, "--out", str(tmp_path / "one")])
    ours = made(tmp_path / "two")
    assert ours == made(tmp_path / "one")
    assert "speculative/000/000000.png" in ours and len(ours) == 2 * (1 + 2)


def test_other_settings_are_refused_and_overwrite_starts_afresh(quick_job, tmp_path, refused):
    few = [*quick_job, "--labels", "1", "--metrics", "none", "--strategy", "Handoff", "--strategy.entry", "2"]
    few += ["--out", str(tmp_path / "run")]
    fid.main([*few, "--seed", "4"])
    error = refused(fid.main, [*few, "--seed", "5", "--batch_size", "3"])
    assert "seed: 4 in the folder, 5 now" in error and "batch_size: 4 in the folder, 3 now" in error
    assert "labels" not in error
    fid.main([*few, "--seed", "5", "--batch_size", "3", "--overwrite"])
    assert ",5000000," in (tmp_path / "run/handoff/manifest.csv").read_text()


def test_a_start_that_fails_leaves_the_folder_free(quick_job, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("eval.main_job.job.start_session", fails)
    out = tmp_path / "run"
    with pytest.raises(SystemExit):
        fid.main(
            [*quick_job, "--metrics", "none", "--strategy", "Speculative", "--strategy.gamma", "1", "--out", str(out)]
        )
    with RunLock(out).held():
        pass


def test_a_finished_runs_config_repeats_it(finished):
    out, _ = finished
    repeated = as_config(parse(["--config", str(out / "config.yaml")]))
    assert repeated == yaml.safe_load((out / "config.yaml").read_text())


def test_the_table_of_strategies(finished):
    out, _ = finished
    command = [sys.executable, "docs/strategies_table.py", str(out), str(out)]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2 + len(ARMS)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| `Baseline('target')` |") and lines[3].startswith("| `Speculative(")
    assert lines[5].startswith("| `Handoff(2, first='target')` |")


@pytest.mark.parametrize("devices", ["1", pytest.param("2", marks=pytest.mark.proof)])
def test_images_alone_by_the_lightning_command(pair_files, tmp_path, monkeypatch, devices):
    """The config for ImageNet with small models: only the command line differs."""
    command = ["predict", "--config", str(ROOT / "configs" / "predict_imagenet.yaml")]
    for name, file in pair_files.items():
        command += [f"--model.init_args.pair.{name}", str(file)]
    command += ["--model.init_args.engine.threads", "1", "--trainer.accelerator", "cpu"]
    command += ["--data.init_args.labels", "0-4", "--data.init_args.images_per_class", "5"]
    command += ["--data.init_args.batch_size", "10", "--trainer.devices"]
    first = [sys.executable, "-m", "lightning_modules", *command, devices]
    result = subprocess.run(first, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if " calls of the target and " not in line]
    assert "speculative: " in result.stderr  # and nothing of seeds, loggers and trees
    assert said == ["sampling.top_k: 900 keeps all 24 tokens of the codebook"]
    assert "images: 25 of each arm in runs/predict_imagenet (baseline, speculative)\n" in result.stdout
    assert result.stdout.count("speculative: gamma 'auto' is ") == 1
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning_modules", *command, "1"])  # continues it: nothing is left to do
    monkeypatch.setattr("sdvar.decode", lambda *_, **__: pytest.fail("a model ran"))
    lightning_modules.__main__.main()
    out = tmp_path / "runs" / "predict_imagenet"
    for arm in ("baseline", "speculative"):
        assert len(list((out / arm).rglob("*.png"))) == 25
    settings = yaml.safe_load((out / "settings.yaml").read_text())
    chosen = settings["arms"]["speculative"]["resolved"]["init_args"]
    drafts = chosen["gamma"] != {"class_path": "sdvar.Spans", "init_args": {"scales": [1]}}
    with (out / "speculative" / "manifest.csv").open(newline="") as rows:  # of all processes
        assert {int(row["draft_calls"]) > 0 for row in csv.DictReader(rows)} == {drafts}
    assert (settings["precision"], settings["engine"]["tf32"], settings["sampling"]["top_k"]) == (
        "bf16-true",
        False,
        900,
    )
    assert not (out / "metrics.json").exists() and (out / "config.yaml").is_file()


@pytest.mark.proof
def test_drafts_made_of_the_target(quick_job, tmp_path, refused):
    out = tmp_path / "run"
    line = [*quick_job, "--labels", "0-2", "--images_per_class", "2", "--metrics", "pairs", "--out", str(out)]
    line[line.index("--draft") + 1] = "target:int8"
    line += ["--strategy", "Speculative", "--strategy.gamma", "2"]
    line += ["--strategy", "int8=Baseline", "--strategy.model", "draft"]
    line += ["--strategy", "int4=Baseline", "--strategy.model", "draft", "--strategy.draft", "target:int4"]
    line += ["--strategy", "first=Speculative", "--strategy.gamma", "2"]
    line += ["--strategy.draft", "target:first=1"]
    fid.main(line)
    metrics = json.loads((out / "metrics.json").read_text())
    arms = metrics["arms"]
    assert arms["speculative"]["token_agreement_with_baseline"] == 1 == arms["first"]["token_agreement_with_baseline"]
    assert arms["int8"]["token_agreement_with_baseline"] > arms["int4"]["token_agreement_with_baseline"]
    assert arms["first"]["draft"] == "target:first=1"
    assert set(metrics["environment"]["weights_sha256"]) == {"target", "tokenizer"}
    assert yaml.safe_load((out / "config.yaml").read_text())["draft"] == "target:int8"
    before = made(out)
    (out / "int4" / "000" / "000003.png").unlink()
    fid.main(line)
    assert made(out) == before
    line[line.index("--draft") + 1] = "target:int4"
    assert "target:int4" in refused(fid.main, line)
