"""Sweeps by the command's own code, on a pair small enough to decode in seconds."""

import csv
import gc
import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import sdvar
from eval import fid, measure, sweep
from eval.metrics.schema import metrics_schema
from lightning_modules import predictor as predicting
from lightning_modules.arms.arm import build_arms
from lightning_modules.run.formats.tables import image_file
from tests.conftest import PATCH_NUMS
from tests.eval.metrics.json_schema import violations

IMAGES, BATCHES = 20, 7  # 5 classes x 4, in batches of 3: the last is filled up
HOT = [1.5, 1.5, 1.0, 0.5]
SPANS = {
    "class_path": "Speculative",
    "init_args": {"gamma": {"class_path": "Spans", "init_args": {"scales": [[2, 2], [8, 1, 1]]}}},
}


@pytest.fixture(scope="module")
def other_draft(tmp_path_factory) -> Path:
    """A second draft for the pair."""
    from safetensors.torch import save_file

    torch.manual_seed(1)
    model = sdvar.VAR(PATCH_NUMS, num_classes=5, depth=1, width=16, heads=1, codebook_size=24, latent_channels=8)
    model.init_weights()
    file = tmp_path_factory.mktemp("other") / "smaller.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, file)
    return file


@pytest.fixture(scope="module")
def config(pair_files, other_draft) -> dict:
    return {
        **{name: str(file) for name, file in pair_files.items()},
        "grid": {
            "lossless": {"class_path": "Speculative", "init_args": {"gamma": [1, 2]}},
            "small": {"class_path": "Baseline", "init_args": {"model": "draft"}, "draft": str(other_draft)},
            "hot": {"class_path": "Baseline", "sampling": {"temperature": HOT}},
        },
        "sampling": {"top_k": 0, "top_p": 0.0},
        "images_per_class": 4,
        "batch_size": 3,
        "threads": 1,
        "accelerator": "cpu",
        "metrics": ["pairs"],
    }


def run(config: dict, out: Path, *arguments: str) -> dict:
    """Runs a sweep; returns what metrics.json holds."""
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    sweep.main(["--config", str(file), "--out", str(out), *arguments])
    return json.loads((out / "metrics.json").read_text())


def with_handoff(config: dict, entry: int = 2) -> dict:
    handoff = {"class_path": "Handoff", "init_args": {"entry": entry}}
    return {**config, "grid": {**config["grid"], "handoff": handoff}}


def pixels(out: Path, arm: str) -> np.ndarray:
    return np.stack([np.asarray(Image.open(out / arm / image_file(index))) for index in range(IMAGES)])


def made(out: Path) -> dict[str, bytes]:
    """Images, tokens and manifests: all that does not depend on time."""
    return {
        str(f.relative_to(out)): f.read_bytes() for f in sorted(out.rglob("*")) if f.suffix in (".png", ".zlib")
    } | {str(f.relative_to(out)): f.read_bytes() for f in sorted(out.rglob("manifest.csv"))}


def times(out: Path) -> dict[str, int]:
    return {str(f.relative_to(out)): f.stat().st_mtime_ns for f in out.rglob("*") if f.suffix in (".png", ".zlib")}


@pytest.fixture(scope="module")
def swept(config, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "run"
    run(config, out)
    return out


@pytest.fixture
def copied(swept, tmp_path) -> Path:
    return shutil.copytree(swept, tmp_path / "run")


@pytest.fixture
def decodes(monkeypatch) -> list[sdvar.Strategy]:
    """Strategies of every decode, in order; the decodes are real."""
    calls, decode = [], sdvar.decode

    def spy(pair, labels, seeds, strategy, sampling, **options):
        calls.append(strategy)
        return decode(pair, labels, seeds, strategy, sampling, **options)

    monkeypatch.setattr(predicting.sdvar, "decode", spy)
    return calls


def test_a_sweep_is_a_run_of_all_points(swept):
    metrics = json.loads((swept / "metrics.json").read_text())
    assert violations(metrics, metrics_schema()) == []
    assert list(metrics["arms"]) == ["baseline", "lossless_gamma1", "lossless_gamma2", "small", "hot"]
    for name, arm in metrics["arms"].items():
        assert arm["images"] == IMAGES == len(list((swept / name).rglob("*.png")))
        assert arm["speed_relative_to_baseline"] > 0
    assert "<html" in (swept / "report.html").read_text()


def test_a_point_decodes_with_its_own_draft_and_its_own_sampling(pair, swept, other_draft):
    drafted = sdvar.ModelPair(sdvar.load_var(other_draft), pair.target, pair.tokenizer)
    rows = list(csv.DictReader((swept / "baseline" / "manifest.csv").open(newline="")))[:3]
    labels, seeds = ([int(row[column]) for row in rows] for column in ("label", "seed"))
    for arm, strategy, sampling in (
        ("small", sdvar.Baseline("draft"), sdvar.Sampling()),
        ("hot", sdvar.Baseline(), sdvar.Sampling(temperature=HOT)),
        ("baseline", sdvar.Baseline(), sdvar.Sampling()),
    ):
        images = sdvar.decode(drafted, labels, seeds, strategy, sampling).images
        expected = images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(pixels(swept, arm)[:3], expected)
    assert not np.array_equal(pixels(swept, "hot"), pixels(swept, "baseline"))
    arms = json.loads((swept / "metrics.json").read_text())["arms"]
    assert arms["small"]["draft"] == str(other_draft) and "draft" not in arms["baseline"]
    assert arms["hot"]["sampling"]["temperature"] == HOT and "sampling" not in arms["baseline"]
    assert not arms["hot"]["exact"] and not arms["hot"]["lossless"] and arms["hot"]["token_agreement_with_baseline"] < 1


def test_a_point_that_is_added_is_decoded_alone_and_compared_with_the_baseline_that_is_there(
    config, copied, tmp_path, decodes
):
    before = times(copied)
    metrics = run(with_handoff(config), copied)
    after = times(copied)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + IMAGES + BATCHES  # and the tokens of each batch
    assert set(decodes) == {sdvar.Handoff(2), sdvar.Baseline()}
    assert decodes.count(sdvar.Handoff(2)) == BATCHES + 1  # one decode to warm up
    assert decodes.count(sdvar.Baseline()) == predicting.TIMED_AGAIN + 1  # for the speed: seconds of one session
    rows = list(csv.DictReader((copied / "handoff" / "batches.csv").open(newline="")))
    assert [bool(row["baseline_seconds"]) for row in rows] == [True] * 5 + [False] * 2
    ratios = [float(row["baseline_seconds"]) / float(row["seconds"]) for row in rows[:5]]
    assert metrics["arms"]["handoff"]["speed_relative_to_baseline"] == statistics.median(ratios)
    decodes.clear()
    at_once = run(with_handoff(config), tmp_path / "at_once")
    assert made(copied) == made(tmp_path / "at_once")
    assert metrics["arms"].keys() == at_once["arms"].keys()
    assert decodes.count(sdvar.Baseline()) == 2 * (BATCHES + 1)  # and `hot`, which is one with other sampling


def test_tokens_that_are_lost_are_made_again(config, copied, decodes):
    before, written = made(copied), times(copied)
    (copied / "baseline" / "tokens" / "000005.zlib").write_bytes(b"damaged")
    (copied / "baseline" / "tokens" / "000006.zlib").unlink()
    run(with_handoff(config), copied)
    assert made(copied).items() > before.items()
    assert {name: at for name, at in times(copied).items() if name in written and name.endswith("png")} == {
        name: at for name, at in written.items() if name.endswith("png")
    }
    assert decodes.count(sdvar.Baseline()) == BATCHES + 1


def test_an_interrupted_sweep_is_continued(config, swept, tmp_path, monkeypatch, decodes):
    out, decode = tmp_path / "run", sdvar.decode

    def interrupted(*arguments, **options):
        if len(decodes) >= 15:  # 5 to warm up, two batches of 5 arms
            raise OSError("the disk is full")
        return decode(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(predicting.sdvar, "decode", interrupted)
        with pytest.raises(SystemExit):
            run(config, out)
    gc.collect()  # the lock of the run that failed, which a process's end would release
    assert not (out / "metrics.json").exists() and len(decodes) == 15
    decodes.clear()
    metrics = run(config, out)
    assert len(decodes) == 5 * (BATCHES - 2 + 1)
    assert made(out) == made(swept)
    assert metrics["arms"].keys() == json.loads((swept / "metrics.json").read_text())["arms"].keys()
    decodes.clear()
    run(config, out)
    assert decodes == []


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"seed": 5, "batch_size": 4}, ["seed: 0 in the folder, 5 now", "batch_size: 3 in the folder, 4 now"]),
        ({"sampling": {"top_k": 7, "top_p": 0.0}}, ["sampling.top_k: 0 in the folder, 7 now"]),
        ({"labels": "0-3"}, ["labels: [0, 1, 2, 3, 4] in the folder, [0, 1, 2, 3] now"]),
        ({"target": "DRAFT"}, ["pair.target: ", "weights.target: "]),
        ({"grid": {"hot": {"class_path": "Handoff", "init_args": {"entry": 2}}}}, ["arms.hot: ", "Handoff(entry=2"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_another_baseline_is_refused_with_what_differs(change, errors, config, copied, refused, decodes):
    if change.get("target"):
        change = {"target": config["draft"]}
    before = made(copied)
    message = refused(run, {**config, **change}, copied)
    assert message.startswith("eval/sweep.py: error: out: ")
    assert all(error in message for error in errors) and "--overwrite" in message
    differing = message.partition("--overwrite it: ")[2].split("; ")
    assert all(any(error in text for error in errors) for text in differing)
    assert made(copied) == before and decodes == []


@pytest.mark.proof
def test_a_point_that_leaves_the_grid_stays_in_the_report(config, copied, refused, decodes):
    smaller = {**config, "grid": {name: point for name, point in config["grid"].items() if name != "hot"}}
    assert run(smaller, copied)["arms"]["hot"]["sampling"]["temperature"] == HOT
    (copied / "hot" / image_file(7)).unlink()
    assert "hot lacks 1 of 20 images" in refused(run, smaller, copied) and decodes == []
    shutil.rmtree(copied / "hot")  # given up
    assert "hot" not in run(smaller, copied)["arms"] and decodes == []


def test_a_sweeps_folder_is_that_of_a_run(copied, config):
    """Its config repeats it by eval/fid.py, and eval/measure.py measures it again."""
    options = fid.parse(["--config", str(copied / "config.yaml")])
    names = [arm.name for arm in build_arms(options.strategy, sdvar.Sampling(**options.sampling.as_dict()))]
    assert names == ["baseline", "lossless_gamma1", "lossless_gamma2", "small", "hot"]
    before = json.loads((copied / "metrics.json").read_text())["arms"]
    measure.main(["--out", str(copied)])
    assert json.loads((copied / "metrics.json").read_text())["arms"] == before


@pytest.mark.parametrize(
    ("grid", "error"),
    [
        ({}, "grid: expected points to decode, got none"),
        (
            {"x": {"class_path": "Handoff", "init_args": {"entry": 2}, "sampling": {"temperature": [1.1, 1.0]}}},
            "strategy 'x': temperature: expected one number or 4, one per scale, got 2",
        ),
        ({"x": SPANS}, "strategy 'x_scales8-1x2': scales: expected spans of 4 scales in all"),
        ({"x": {"class_path": "Handoff", "init_args": {"entry": [3, 9]}}}, "strategy 'x_entry9': entry: expected 0 to"),
        ({"x": {"class_path": "Telepathy"}}, "strategy 'x': expected one of Baseline, Handoff, Parallel, Speculative"),
        ({"x": {"class_path": "Baseline"}}, "the points 'baseline' and 'x' are the same"),
        (
            {"x": {"class_path": "Baseline", "init_args": {"model": "draft"}, "draft": "nowhere.pth"}},
            "strategy 'x': nowhere.pth: no such file",
        ),
        ({"x": {"class_path": "Baseline", "init_args": {"model": "draft"}, "draft": "OTHER"}}, "strategy 'x': "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else value,
)  # fmt: skip
def test_a_bad_point_is_named_before_any_work(grid, error, config, tmp_path, refused, decodes):
    if grid.get("x", {}).get("draft") == "OTHER":  # a VAR of another pyramid
        from safetensors.torch import save_file

        model = sdvar.VAR((1, 2, 3), num_classes=5, depth=1, width=16, heads=1, codebook_size=24, latent_channels=8)
        grid["x"]["draft"] = str(tmp_path / "three.safetensors")
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, grid["x"]["draft"])
    message = refused(run, {**config, "grid": grid}, tmp_path / "run")
    assert message.startswith("eval/sweep.py: error: ") and error in message
    assert not (tmp_path / "run").exists() and decodes == []


def test_a_point_of_the_command_line_is_added_to_the_grid(config, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    line = ["--config", str(file), "--strategy", "late=Handoff", "--strategy.entry", "2"]
    line += ["--strategy.sampling.top_k", "9", "--strategy.draft", "d.pth"]
    options = sweep.parse(line)
    assert list(options.strategy) == ["lossless_gamma1", "lossless_gamma2", "small", "hot", "late"]
    late = build_arms(options.strategy, sdvar.Sampling(**options.sampling.as_dict()))[-1]
    assert (late.sampling, late.draft) == (sdvar.Sampling(top_k=9), "d.pth")
    with pytest.raises(ValueError, match="two points are called 'hot'"):
        sweep.parse(["--config", str(file), "--strategy", "hot=Handoff", "--strategy.entry", "2"])
