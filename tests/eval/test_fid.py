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
import sdvar
from eval import fid
from eval.cli.arms import default_arms
from eval.cli.options import as_config, parse
from lightning_modules.arm import build_arms
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
def options(pair_files) -> list[str]:
    files = [text for name, file in pair_files.items() for text in (f"--{name}", str(file))]
    sampling = ["--sampling.top_k", "0", "--sampling.top_p", "0"]
    size = ["--images_per_class", "4", "--batch_size", "6", "--threads", "1", "--accelerator", "cpu"]
    measuring = ["--feature_extractor", "fashion-mnist-128", "--reference", "eval/bundled/fashion_mnist_test.parquet"]
    return [*files, *sampling, *size, *(str(ROOT / text) if text.startswith("eval/") else text for text in measuring)]


@pytest.fixture(scope="module")
def finished(options, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    out = tmp_path_factory.mktemp("fid") / "run"
    return out, run(*options, "--out", out)


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


def test_two_processes_make_the_same_bytes_as_one(finished, options, tmp_path):
    """With what the first chose for gamma auto, which its config holds."""
    config = finished[0] / "config.yaml"
    result = run("--config", config, "--metrics", "none", "--devices", "2", "--out", tmp_path / "run")
    assert "gamma 'auto'" not in result.stdout
    ours, theirs = made(tmp_path / "run"), made(finished[0])
    assert len(ours) == len(ARMS) * (IMAGES + 2)
    assert ours == theirs


def test_a_run_with_holes_is_continued(finished, options, tmp_path, capsys):
    out = shutil.copytree(finished[0], tmp_path / "run")
    before = made(out)
    metrics = json.loads((out / "metrics.json").read_text())
    (out / "handoff" / "000" / "000008.png").unlink()
    (out / "metrics.json").unlink()
    capsys.readouterr()
    fid.main([*options, "--out", str(out)])
    images = sum(arm["images"] for arm in metrics["arms"].values())
    assert f"has {images - 1:,} of {images:,} images of all arms already" in capsys.readouterr().out
    assert made(out) == before
    again = json.loads((out / "metrics.json").read_text())
    assert again["arms"] == metrics["arms"]  # timings too: those of the first decode stay


@pytest.mark.proof
def test_fewer_images_than_processes_of_torchrun(options, tmp_path):
    """One image, two processes: one of them has nothing to do, and the image is that of a process alone."""
    one = [*options, "--labels", "3", "--images_per_class", "1", "--metrics", "none", "--strategy", "Speculative"]
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


def test_other_settings_are_refused_and_overwrite_starts_afresh(options, tmp_path, refused):
    few = [*options, "--labels", "1", "--metrics", "none", "--strategy", "Handoff", "--strategy.entry", "2"]
    few += ["--out", str(tmp_path / "run")]
    fid.main([*few, "--seed", "4"])
    error = refused(fid.main, [*few, "--seed", "5", "--batch_size", "3"])
    assert "seed: 4 in the folder, 5 now" in error and "batch_size: 4 in the folder, 3 now" in error
    assert "labels" not in error
    fid.main([*few, "--seed", "5", "--batch_size", "3", "--overwrite"])
    assert ",5000000," in (tmp_path / "run/handoff/manifest.csv").read_text()


def test_a_start_that_fails_leaves_the_folder_free(options, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("eval.cli.job.start_session", fails)
    out = tmp_path / "run"
    with pytest.raises(SystemExit):
        fid.main(
            [*options, "--metrics", "none", "--strategy", "Speculative", "--strategy.gamma", "1", "--out", str(out)]
        )
    with RunLock(out).held():
        pass


def test_a_noise_floor_is_added_once():
    few, default = (parse([*line, "--noise_floor"]) for line in (["--strategy", "Speculative"], []))
    assert list(few.strategy) == ["speculative", "baseline_reseeded"]
    assert default.strategy == parse([]).strategy
    (floor,) = (arm for arm in build_arms(few.strategy) if arm.reseed)
    assert (floor.name, floor.strategy) == ("baseline_reseeded", sdvar.Baseline())


def test_a_finished_runs_config_repeats_it(finished):
    out, _ = finished
    repeated = as_config(parse(["--config", str(out / "config.yaml")]))
    assert repeated == yaml.safe_load((out / "config.yaml").read_text())


def without(options, *names: str) -> dict:
    return {name: value for name, value in as_config(options).items() if name not in names}


def test_the_shipped_config_is_the_default_run():
    shipped = parse(["--config", str(ROOT / "configs" / "fid_tiny.yaml")])
    default = parse([])
    assert shipped.labels == "0-9" and default.labels is None  # all classes, which are these
    scales = len(sdvar.load_pair(default.pair).pyramid)
    both = shipped.strategy, default_arms(scales, default.pair)
    arms = [{arm.name: arm.config() for arm in build_arms(one)} for one in both]
    assert default.strategy is None and arms[0] == arms[1] and list(arms[0]) == ARMS
    assert without(shipped, "strategy", "labels") == without(default, "strategy", "labels")


def test_the_config_that_measures_the_bundled_target_has_one_arm_and_the_defaults_else():
    one_arm, default = parse(["--config", str(ROOT / "configs" / "fid_tiny_10k.yaml")]), parse([])
    assert [arm.name for arm in build_arms(one_arm.strategy)] == ["baseline"]
    assert one_arm.images_per_class == 1000
    names = ("strategy", "images_per_class", "out")
    assert without(one_arm, *names) == without(default, *names)


def test_the_table_of_strategies(finished):
    out, _ = finished
    command = [sys.executable, "docs/strategies_table.py", str(out), str(out)]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2 + len(ARMS)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| `Baseline(model='target')` |") and lines[3].startswith("| `Speculative(")
    assert lines[5].startswith("| `Handoff(2, first='target')` |")


def test_an_option_on_the_command_line_wins_over_the_config_wherever_it_stands(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("seed: 1\nsampling: {top_k: 7}\n")
    options = parse(["--seed", "2", "--config", str(config)])
    assert (options.seed, options.sampling.top_k, options.sampling.cfg) == (2, 7, 1.5)


@pytest.mark.parametrize(
    ("given", "temperature"),
    [([], 1.0), (["0.9"], 0.9), (["1.1,1.1,1.0"], [1.1, 1.1, 1.0]), (["[1.1, 1]"], [1.1, 1.0])],
    ids=str,
)
def test_a_temperature_is_a_number_or_one_a_scale(given, temperature, tmp_path):
    options = parse([*(["--sampling.temperature"] if given else []), *given])
    assert options.sampling.temperature == temperature
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(as_config(options)))
    assert parse(["--config", str(config)]).sampling.temperature == temperature


def test_strategies_of_the_command_line_take_the_parameters_that_follow_them():
    line = "--strategy fast=Speculative --strategy.gamma 3 --seed 1 --strategy.acceptance Match "
    line += "--strategy.acceptance.tau=0.7 --strategy Handoff --strategy.entry 2 "
    line += "--strategy x=Baseline --strategy.reseed true"
    baseline, fast, handoff, other = build_arms(parse(line.split()).strategy)
    assert str(baseline.strategy) == "Baseline(model='target')"
    assert (fast.name, str(fast.strategy)) == (
        "fast",
        "Speculative(gamma=3, acceptance=Match(tau=0.7, keep='draft'))",
    )
    assert (handoff.name, handoff.strategy.entry) == ("handoff", 2)
    assert (other.name, other.reseed, baseline.reseed) == ("x", True, False)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--pair", "huge"], "pair: expected a bundled pair"),
        (["--draft", "a.pth"], "expected --pair, or --draft, --target and --tokenizer together"),
        (["OPTIONS", "--target", "nowhere.pth"], "nowhere.pth: no such file"),
        (["OPTIONS", "--labels", "0-5"], "labels: expected classes 0 to 4, got 5"),
        (["--labels", "nowhere.txt"], "nor an existing file"),
        (["OPTIONS", "--out", "FILE/run"], "cannot be written"),
        (["OPTIONS", "--out", "TAKEN"], "contains no run"),
        (
            ["--strategy", "Telepathy"],
            "Speculative, or module.Class, got 'Telepathy'",
        ),
        (["--strategy", "Speculative", "--strategy.gama", "2"], "unknown key gama; did you mean gamma?"),
        (["--strategy", "Speculative", "--strategy.gamma", "0"], "gamma: expected an int >= 1, got 0"),
        (["--strategy", "Handoff"], "strategy 'handoff': missing entry"),
        (["--strategy", "Speculative", "--strategy", "Speculative"], "two arms are called 'speculative'"),
        (["--strategy.gamma", "2"], "expected --strategy [NAME=]CLASS before"),
        (["--strategy"], "expected a value after it"),
        (["OPTIONS", "--sampling.top_k", "-1"], "top_k"),
        (["OPTIONS", "--sampling.temperature", "1.1,1.0"], "temperature: expected one number or 4, one per scale"),
        (["OPTIONS", "--cfg", "1.5,0"], "cfg: expected one number or 4, one per scale, got 2"),
        (["OPTIONS", "--cfg_until", "5"], "cfg_until: expected 1 to 4, the number of scales, got 5"),
        (["OPTIONS", "--cfg_until", "0"], "cfg_until: expected an int >= 1, the first scale without guidance, got 0"),
        (["OPTIONS", "--sampling.temperature", "0"], "temperature: expected a number > 0"),
        (
            ["--metrics", "beauty"],
            "metrics: expected a list of is, fid, kid, prc, classes, dup, pairs, cosine, lpips, nll, or",
        ),
        (
            ["--strategy", "baseline_reseeded=Handoff", "--strategy.entry", "2", "--noise_floor"],
            "--noise_floor: another arm is called 'baseline_reseeded'",
        ),
        (["OPTIONS", "--reference", "nowhere"], "nowhere does not exist"),
        (["OPTIONS", "--feature_extractor", "eyes"], "feature_extractor"),
        (["OPTIONS", "--feature_extractor", "vgg16"], "the weights of vgg16 are not on this machine; give FILE, as"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["OPTIONS", "--attention", "efficient"], "attention: efficient does not run on cpu"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_clear_error_before_any_model_runs(
    arguments, error, options, tmp_path, refused, monkeypatch
):
    monkeypatch.setattr("sdvar.decode", lambda *_, **__: pytest.fail("a model ran"))
    download = "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url"
    monkeypatch.setattr(download, lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("")
    line = ["--out", str(tmp_path / "run")]
    for text in arguments:
        line += options if text == "OPTIONS" else [text.replace("FILE", str(tmp_path / "file"))]
    line = [text.replace("TAKEN", str(tmp_path / "taken")) for text in line]
    message = refused(fid.main, line)
    assert message.startswith("eval/fid.py: error: ") and error in message
    assert not (tmp_path / "run").exists()


def test_a_reference_of_mixed_sizes_is_refused_before_any_model_runs(options, tmp_path, refused, monkeypatch):
    """Not after hours of decoding, when it is first measured against."""
    from PIL import Image

    monkeypatch.setattr("sdvar.decode", lambda *_, **__: pytest.fail("a model ran"))
    (tmp_path / "photos").mkdir()
    for index, side in enumerate((32, 32, 48)):
        Image.new("RGB", (side, side)).save(tmp_path / "photos" / f"{index}.png")
    assert "all images of a set must have one size" in refused(
        fid.main, [*options, "--reference", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]
    )
    assert not (tmp_path / "run").exists()


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
def test_drafts_made_of_the_target(options, tmp_path, refused):
    out = tmp_path / "run"
    line = [*options, "--labels", "0-2", "--images_per_class", "2", "--metrics", "pairs", "--out", str(out)]
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--draft", "target:int7"], "draft: expected one of target:int8, "),
        (["--draft", "target:first=9"], "draft: expected target:first=N with N from 1 to the 8 layers of the target"),
        (
            ["--draft", "target:fp8-dynamic", "--accelerator", "cpu"],
            "does not run on cpu with a target in torch.float32",
        ),
        (["--draft", "target:bf16", "--precision", "bf16-true"], "would be the target; expected one of"),
        (["--strategy", "Speculative", "--strategy.draft", "target:int7"], "draft: expected one of target:int8, "),
        (["--strategy", "Speculative", "--strategy.draft", "target:first=0"], "with N from 1 to the 8 layers"),
    ],
)
def test_a_draft_that_cannot_be_made_is_one_clear_error(words, message, tmp_path, refused):
    assert message in refused(fid.main, [*words, "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()
