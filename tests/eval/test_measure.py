"""eval/measure.py: a finished run gives the same metrics again, from its folder alone."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from eval import measure
from eval.metrics.schema import metrics_schema
from lightning_modules.columns import PER_ROUND
from lightning_modules.run.finished import read_run
from tests.eval.metrics.json_schema import violations
from tests.paths import ROOT

SCHEMA = metrics_schema()
ARMS = ["baseline", "speculative", "lossy", "baseline_reseeded"]


def metrics_of(out):
    return json.loads((out / "metrics.json").read_text())


def test_every_metric_of_the_run_is_there(decoded):
    arms = metrics_of(decoded)["arms"]
    assert list(arms) == ARMS
    for name, arm in arms.items():
        assert arm["images"] == 20 and arm["repeats"]["count"] == 2 and arm["repeats"]["images"] == 10
        assert arm["precision_recall_against"] == "reference" and 0 <= arm["precision"] <= 1
        assert "kernel_inception_distance_to_reference_mean" in arm
        assert ("kernel_inception_distance_to_baseline_mean" in arm) == (name != "baseline")
        assert ("ssim_mean" in arm) == (name in ("speculative", "lossy"))
        assert "frechet_distance_to_reference" in arm["repeats"]
    for name in ("speculative", "lossy"):
        arm, seconds = arms[name], arms[name]["seconds_per_scale"]
        assert sum(arm["target_calls_images"]) == 20 and arm["drafted_rounds"][0][1] == 24  # 4 batches of 6
        shares = [a / d if d else None for a, d in zip(*(map(sum, zip(*arm[key])) for key in reversed(PER_ROUND)))]
        assert shares == pytest.approx(arm["accepted_scales_per_scale"])
        assert min(seconds["target"][1:]) > 0 and seconds["draft"][-1] == 0  # the last scale is never drafted
        assert arm["seconds_of_no_scale"]["tokenizer"] > 0
    assert arms["baseline"]["target_calls_images"] == [0, 0, 0, 20] and "drafted_rounds" not in arms["baseline"]
    assert arms["lossy"]["identical_images"] < 20 and 0 < arms["lossy"]["psnr_mean"] < 100
    assert arms["speculative"]["identical_images"] == 20 - arms["speculative"]["images_differing_from_baseline"]
    page = (decoded / "report.html").read_text()
    assert "Further metrics" in page and "Each of the 2 repeats has 10 images" in page


@pytest.mark.proof
def test_the_same_command_line_measures_the_same(decoded, copied_run):
    command = [sys.executable, ROOT / "eval" / "measure.py", "--out", copied_run]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "lossy" in result.stdout and "report: " in result.stdout
    ours, theirs = (
        json.loads((run / "metrics.json").read_text(), parse_float=lambda value: round(float(value), 5))
        for run in (copied_run, decoded)
    )  # another number of threads adds in another order
    for part in ("arms", "reference", "environment", "config", "class_names", "batch_size", "patch_nums"):
        assert ours[part] == theirs[part], part
    for phase in ("prepare", "decode"):
        assert ours["wall_seconds"][phase] == theirs["wall_seconds"][phase]
    assert ours["measured_on"]["command"] != theirs["measured_on"]["command"]
    assert yaml.safe_load((copied_run / "config.yaml").read_text()) == yaml.safe_load(
        (decoded / "config.yaml").read_text()
    )


def test_metrics_fit_the_schema(decoded, copied_run):
    metrics = metrics_of(decoded)
    assert violations(metrics, SCHEMA) == []
    measure.main(["--out", str(copied_run), "--metrics", "is", "--reference", "none"])
    assert violations(metrics_of(copied_run), SCHEMA) == []
    del metrics["arms"]["lossy"]["images"]
    metrics["arms"]["baseline"]["precision"] = 1.5
    metrics["beauty"] = 10
    assert len(violations(metrics, SCHEMA)) == 3


def test_the_run_tells_what_it_ran_on(decoded):
    environment = metrics_of(decoded)["environment"]
    assert environment["dtype"] == "float32" and environment["kernels"]["attention"] == "auto"
    assert {environment["kernels"][part] for part in ("pick", "blocks", "head")} == {"torch"}  # on a CPU
    assert environment["kernels"]["tokenizer_dtype"] == "float32"
    assert environment["kernels"]["cudnn_benchmark"] is False and environment["processor"]
    wall = metrics_of(decoded)["wall_seconds"]
    assert wall["measure"] == pytest.approx(
        sum(wall[name] for name in ("tables", "features", "metrics", "pairs", "scores"))
    )
    assert wall["total"] == pytest.approx(wall["prepare"] + wall["decode"] + wall["measure"])


def replace_image(out):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(out / "lossy/000/000007.png")


@pytest.mark.parametrize("metrics", ["fid", "pairs"])
def test_a_replaced_image_is_not_measured(copied_run, metrics, refused):
    replace_image(copied_run)
    error = refused(measure.main, ["--out", str(copied_run), "--metrics", metrics])
    assert "lossy/000/000007.png is not the one that the run wrote" in error


def test_other_options_win_and_go_into_the_config(copied_run):
    measure.main(["--out", str(copied_run), "--metrics", "fid,pairs", "--reference", "none", "--repeats", "1"])
    metrics = metrics_of(copied_run)
    arm = metrics["arms"]["lossy"]
    assert "frechet_distance_to_baseline" in arm and "ssim_mean" in arm
    absent = ("inception_score_mean", "frechet_distance_to_reference", "precision", "repeats")
    assert not set(absent) & set(arm) and metrics["reference"] == {}
    config = yaml.safe_load((copied_run / "config.yaml").read_text())
    assert (config["metrics"], config["reference"], config["repeats"]) == (["fid", "pairs"], "none", 1)
    assert config["images_per_class"] == 2 == metrics["config"]["images_per_class"]


def test_a_run_that_was_never_measured_is_measured(decoded, copied_run):
    for name in ("metrics.json", "report.html"):
        (copied_run / name).unlink()
    measure.main(["--out", str(copied_run)])
    assert metrics_of(copied_run)["arms"] == metrics_of(decoded)["arms"]
    assert metrics_of(copied_run)["patch_nums"] == [1, 2, 3, 4]


def test_a_run_by_lightning_with_torchs_own_number_of_threads(copied_run, capsys):
    """Such a run has no decoding.json and no config of `eval/fid.py`."""
    for name in ("decoding.json", "config.yaml", "metrics.json"):
        (copied_run / name).unlink()
    file = copied_run / "settings.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["engine"]["threads"] = None
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    measure.main(["--out", str(copied_run), "--metrics", "pairs", "--reference", "none"])
    assert metrics_of(copied_run)["environment"]["threads"] is None
    assert not violations(metrics_of(copied_run), SCHEMA)
    assert "threads" not in capsys.readouterr().out


def test_arms_are_read_from_what_settings_says_and_no_class_of_a_users_own_is_imported(decoded, copied_run):
    run = read_run(decoded)
    assert run.length == 30
    assert {arm.name: (arm.kind, arm.lossless, arm.reseed) for arm in run.arms} == {
        "baseline": ("target", True, False),
        "speculative": ("speculative", True, False),
        "lossy": ("speculative", False, False),
        "baseline_reseeded": ("target", True, True),
    }
    settings = yaml.safe_load((copied_run / "settings.yaml").read_text())
    settings["arms"]["lossy"]["init_args"]["acceptance"] = {"class_path": "nowhere.Typical", "init_args": {"tau": 0.5}}
    (copied_run / "settings.yaml").write_text(yaml.safe_dump(settings))
    measure.main(["--out", str(copied_run), "--metrics", "pairs"])
    arm = metrics_of(copied_run)["arms"]["lossy"]
    assert arm["arm"]["init_args"]["acceptance"]["class_path"] == "nowhere.Typical" and not arm["lossless"]
    assert (arm["kind"], arm["strategy"]) == ("speculative", metrics_of(decoded)["arms"]["lossy"]["strategy"])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda out: (out / "lossy/000/000003.png").unlink(), "lossy lacks 1 of 20 images (000/000003.png); run the"),
        (
            lambda out: [file.unlink() for file in (out / "lossy/000").glob("*.png")],
            "(000/000000.png, 000/000001.png, 000/000002.png, …)",
        ),
        (lambda out: (out / "lossy/manifest.csv").unlink(), "lossy lacks 20 of 20 images"),
        (lambda out: (out / "lossy/batches.csv").unlink(), "lossy/batches.csv lacks 4 batches"),
        (lambda out: (out / "lossy/manifest.rank1.csv").write_text(""), "lossy has tables that were not merged"),
        (lambda out: (out / "settings.yaml").unlink(), "contains no run"),
        (lambda out: (out / "settings.yaml").write_text("{"), "settings.yaml cannot be read"),
        (lambda out: (out / "lossy/000/000003.png").write_bytes(b"half"), "000003.png cannot be read"),
    ],
)
def test_an_incomplete_run_is_refused_and_what_is_missing_named(copied_run, break_it, message, refused):
    break_it(copied_run)
    before = (copied_run / "metrics.json").read_bytes()
    assert message in refused(measure.main, ["--out", str(copied_run)])
    assert (copied_run / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--metrics", "beauty"],
            "metrics: expected a list of is, fid, kid, prc, classes, dup, pairs, cosine, lpips, nll, or ",
        ),
        (["--reference", "nowhere"], "nowhere does not exist"),
        (["--feature_extractor", "eyes"], "feature_extractor: got 'eyes'"),
        (["--repeats", "3"], "repeats: 20 images per arm cannot be split into 3 equal parts"),
        (["--repeats", "0"], "repeats: expected an int >= 1, got 0"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_a_mistake_gets_one_clear_error(decoded, arguments, message, refused):
    error = refused(measure.main, ["--out", str(decoded), *arguments])
    assert error.startswith("eval/measure.py: error: ") and message in error


@pytest.mark.parametrize("command", [pytest.param("measure", marks=pytest.mark.proof), "export"])
def test_help_imports_neither_lightning_nor_datasets(command):
    script = str(ROOT / "eval" / f"{command}.py")
    code = f"import runpy, sys\ntry: runpy.run_path({script!r}, run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print({'lightning', 'datasets'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True)
    assert "--out" in result.stdout and result.stdout.endswith("set()\n"), result.stderr


def test_repeats_are_measured_on_their_own_images(decoded, small_reference):
    """Parts with seeds of their own, each against the same part of the baseline."""
    from torch.utils.data import Subset

    from eval.metrics.feature_metrics import measure_images
    from eval.metrics.images.formats import open_images

    arms = metrics_of(decoded)["arms"]
    values = []
    for part in (range(10), range(10, 20)):
        ours, baseline = (Subset(open_images(decoded / name), part) for name in ("lossy", "baseline"))
        values.append(
            measure_images(
                ours,
                baseline=baseline,
                reference=small_reference,
                feature_extractor="fashion-mnist-128",
                metrics=["fid"],
            )
        )
    for key in ("frechet_distance_to_baseline", "frechet_distance_to_reference"):
        spread, found = arms["lossy"]["repeats"][key], sorted(value[key] for value in values)
        assert spread == {
            "mean": pytest.approx(sum(found) / 2, abs=1e-5),
            "min": pytest.approx(found[0], abs=1e-5),
            "max": pytest.approx(found[1], abs=1e-5),
        }
    with (decoded / "lossy/manifest.csv").open(newline="") as lines:
        labels = [row["label"] for row in csv.DictReader(lines)]
    assert sorted(labels[:10]) == sorted(labels[10:])
    assert len([text for text in arms["lossy"]["warnings"] if "singular" in text]) == 2  # not again for each part
