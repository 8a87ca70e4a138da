"""The likelihood audit of a run: by eval/fid.py with its models, and by eval/measure.py from the folder."""

import json
import shutil

import pytest
import torch
import yaml

import sdvar
from eval import measure
from eval.metrics.decoding import target
from eval.metrics.registry import LIKELIHOOD
from eval.metrics.schema import metrics_schema
from lightning_modules.run.finished import read_run
from sdvar.audit import score
from tests.eval.metrics.json_schema import violations

LIKELIHOOD_KEYS = {key for column in LIKELIHOOD.columns for key in (column.key, column.interval_key)}


def metrics_of(out):
    return json.loads((out / "metrics.json").read_text())


def likelihood(arm):
    return {key: value for key, value in arm.items() if key in LIKELIHOOD_KEYS}


def measured(out, *options):
    measure.main(["--out", str(out), "--metrics", "nll", *options])
    return metrics_of(out)["arms"]


def test_values_are_those_of_the_tokens_under_the_runs_target(decoded, pair_files):
    metrics = metrics_of(decoded)
    pair = sdvar.load_pair(**pair_files)
    run = read_run(decoded)
    for name in ("baseline", "lossy", "baseline_reseeded"):
        rows = run.folder.manifest(name).read()
        labels, seeds = ([int(row[column]) for row in rows] for column in ("label", "seed"))
        strategy = {"lossy": sdvar.Speculative(2, sdvar.Match(0.5))}.get(name, sdvar.Baseline())
        sampling = sdvar.Sampling(**run.sampling)
        tokens = sdvar.decode(pair, labels, seeds, strategy, sampling, images=False).tokens
        scores, found = score(pair, labels, seeds, tokens, sampling), likelihood(metrics["arms"][name])
        assert found["nats_per_token"] == pytest.approx(scores.nats_per_token[0], rel=1e-5)
        assert found["nats_per_token_interval"] == pytest.approx(scores.nats_per_token[1], rel=1e-4)
        assert found["likelihood_z_per_scale"] == pytest.approx(scores.z_per_scale, abs=1e-3)
        assert found["outside_support_tokens"] == 0
    assert metrics["wall_seconds"]["scores"] > 0
    assert violations(metrics, metrics_schema()) == []
    assert likelihood(metrics["arms"]["speculative"]) == likelihood(metrics["arms"]["baseline"])  # scored once


def test_equal_tokens_take_one_pass_whichever_arm_has_them(copied_run, monkeypatch):
    """An exact arm has the baseline's."""
    passes = []

    def counted(pair, labels, *others):
        passes.append(len(labels))
        return score(pair, labels, *others)

    monkeypatch.setattr(target, "score", counted)
    assert list(measured(copied_run)) == ["baseline", "speculative", "lossy", "baseline_reseeded"]
    assert sum(passes) == 3 * 20
    run = read_run(copied_run)
    models = target.load_target(run)
    for _ in range(2):
        models.score(run, "lossy", run.images)
    assert sum(passes) == 4 * 20


def test_every_arm_has_them_and_a_second_measurement_gives_the_same(copied_run):
    before = metrics_of(copied_run)["arms"]
    after = measured(copied_run)
    for name in before:
        for key, value in likelihood(before[name]).items():
            assert value == pytest.approx(after[name][key], rel=1e-5, abs=1e-5)
        assert {"nats_per_token", "likelihood_z", "excess_nats_per_token_interval"} <= likelihood(after[name]).keys()


def test_of_many_images_every_nth_is_scored(copied_run, pair_files):
    """The first ones alone would be of the first classes alone."""
    run = read_run(copied_run)
    rows = sorted(run.folder.manifest("lossy").read(), key=lambda row: int(row["index"]))[::3]  # 20 images, 7 at most
    labels, seeds = ([int(row[column]) for row in rows] for column in ("label", "seed"))
    pair, sampling = sdvar.load_pair(**pair_files), sdvar.Sampling(**run.sampling)
    tokens = sdvar.decode(pair, labels, seeds, sdvar.Speculative(2, sdvar.Match(0.5)), sampling, images=False).tokens
    found = measured(copied_run, "--likelihood_images", "7")["lossy"]
    assert found["likelihood_images"] == len(rows) == 7
    expected = score(pair, labels, seeds, tokens, sampling)
    assert found["nats_per_token"] == pytest.approx(expected.nats_per_token[0], rel=1e-5)
    assert measured(copied_run)["lossy"]["likelihood_images"] == 7  # as the run has it now


def test_repeats_are_scored_on_their_own(decoded, pair_files):
    """10 images each, in batches of 6: the second batch belongs to both."""
    run, found = read_run(decoded), metrics_of(decoded)["arms"]["lossy"]
    rows = sorted(run.folder.manifest("lossy").read(), key=lambda row: int(row["index"]))
    pair, sampling = sdvar.load_pair(**pair_files), sdvar.Sampling(**run.sampling)
    parts = []
    for part in (rows[:10], rows[10:]):
        labels, seeds = ([int(row[column]) for row in part] for column in ("label", "seed"))
        strategy = sdvar.Speculative(2, sdvar.Match(0.5))
        tokens = sdvar.decode(pair, labels, seeds, strategy, sampling, images=False).tokens
        parts.append(score(pair, labels, seeds, tokens, sampling).nats_per_token[0])
    spread = found["repeats"]["nats_per_token"]
    assert (spread["min"], spread["max"]) == pytest.approx((min(parts), max(parts)), rel=1e-5)
    assert spread["mean"] == pytest.approx(found["nats_per_token"], rel=1e-5)  # of as many tokens
    assert "frechet_distance_to_reference" in found["repeats"] and "likelihood_z" in found["repeats"]
    assert "likelihood_z_per_scale" not in found["repeats"]


def test_a_target_that_has_moved_is_missed_and_can_be_given(copied_run, pair_files, tmp_path):
    moved = shutil.copy(pair_files["target"], tmp_path / "moved.pth")
    file = copied_run / "settings.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["pair"]["target"] = "/nowhere/target.pth"
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    arm = measured(copied_run)["lossy"]
    assert likelihood(arm) == {}
    expected = "no likelihood: the run's target, /nowhere/target.pth, is not a file here; give --target FILE"
    assert expected in arm["warnings"]
    assert likelihood(measured(copied_run, "--target", str(moved))["lossy"])


def test_another_target_is_refused(copied_run, pair_files, refused):
    assert "is not the target that the run decoded with (its SHA-256 differs)" in refused(
        measure.main, ["--out", str(copied_run), "--metrics", "nll", "--target", str(pair_files["draft"])]
    )


def test_a_run_makes_nothing_be_downloaded_and_a_pickle_is_not_run(copied_run, tmp_path, monkeypatch):
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    torch.save(Payload(), tmp_path / "evil.pth")
    file = copied_run / "settings.yaml"
    settings = yaml.safe_load(file.read_text())
    del settings["weights"]
    monkeypatch.setattr("sdvar.checkpoints.reading.hub.local_file", lambda *a: pytest.fail("looked for on the hub"))
    for named, reason in (
        ("hf://owner/repo/file.pth", "not a file here"),
        ("d16", "not a file here"),
        (str(tmp_path / "evil.pth"), "evil.pth"),
    ):
        file.write_text(yaml.safe_dump(settings | {"pair": settings["pair"] | {"target": named}}, sort_keys=False))
        monkeypatch.undo() if named.endswith("evil.pth") else None
        arm = measured(copied_run)["lossy"]
        assert likelihood(arm) == {} and any(reason in text for text in arm["warnings"])
    assert not (tmp_path / "ran").exists()


def test_tokens_that_are_missing_are_counted(copied_run):
    (copied_run / "lossy" / "tokens" / "000000.zlib").unlink()
    (copied_run / "baseline" / "tokens" / "000001.zlib").write_bytes(b"damaged")
    arms = measured(copied_run)
    for name in ("lossy", "baseline"):
        assert "likelihood: the tokens of 6 images are missing or damaged, and are left out" in arms[name]["warnings"]
        assert likelihood(arms[name])["nats_per_token"] > 0


def test_tokens_of_no_codebook_are_not_scored(copied_run, monkeypatch):
    run = read_run(copied_run)
    models = target.load_target(run)
    monkeypatch.setattr(type(models.pair.target), "codebook_size", 2)
    assert models.score(run, "lossy", run.images) == ([], run.images)
