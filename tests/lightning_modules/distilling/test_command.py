"""`python -m lightning_modules distil`: it learns, goes on where it was stopped, leaves a draft, refuses mistakes."""

import csv
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file

import sdvar
from lightning_modules.distilling import job
from lightning_modules.distilling.command import main
from lightning_modules.distilling.expected import Worth
from lightning_modules.distilling.role import Role
from lightning_modules.distilling.tokens.stored import StoredImages
from sdvar.decoding.timing import Clock
from sdvar.planning.costs import CostTable, draft_pass, target_pass
from tests.lightning_modules.distilling.conftest import QUICK
from tests.paths import ROOT


def curve(folder, name: str) -> list[float]:
    rows = [row for file in sorted(folder.glob("logs/*/metrics.csv")) for row in csv.DictReader(file.open())]
    return [float(row[name]) for row in rows if row.get(name)]


def test_a_draft_learns_and_decodes(distil, pair_files, capsys):
    folder = distil("--depth 1 --width 32 --heads 2 --steps 30 --lr 0.01 --validate_every 10 --on_policy 0.2")
    losses = curve(folder, "val_kl")
    assert losses[-1] < 0.75 * losses[0]
    said = capsys.readouterr().out
    assert "step 30: KL" in said and "give it as --draft" in said
    card = json.loads((folder / "draft.json").read_text())
    assert card["role"] == "draft" and card["steps"] == 30 and card["shape"] == {"depth": 1, "width": 32, "heads": 2}
    assert card["teacher"] == sdvar.checkpoints.digest(pair_files["target"])
    assert card["sampling"] == {"cfg": 1.5, "top_k": 8, "top_p": 0.0, "temperature": 1.0}
    assert card["figures"]["val_kl"] == pytest.approx(losses[-1], abs=1e-5)
    files = {name: pair_files[name] for name in ("target", "tokenizer")}
    pair = sdvar.load_pair(draft=folder / "draft.safetensors", **files)
    assert pair.draft.depth == 1
    sampling = sdvar.Sampling(cfg=1.5, top_k=8)
    ours = sdvar.decode(pair, [0, 1], [0, 1], sdvar.Speculative(2), sampling, images=False)
    baseline = sdvar.decode(pair, [0, 1], [0, 1], sdvar.Baseline(), sampling, images=False)
    assert all(torch.equal(a, b) for a, b in zip(ours.tokens, baseline.tokens))


def test_guidance_goes_into_the_draft(distil, pair_files, capsys):
    folder = distil(
        "--init layers=0,1 --guidance inside --steps 12 --lr 0.01 --validate_every 6 --role tail --from_scale 2"
    )
    losses = curve(folder, "val_kl")
    assert losses[-1] < 0.8 * losses[0]
    card = json.loads((folder / "draft.json").read_text())
    assert card["guidance"] == card["settings"]["guidance"] == "inside"
    pair = sdvar.load_pair(
        draft=folder / "draft.safetensors", **{name: pair_files[name] for name in ("target", "tokenizer")}
    )
    assert pair.draft.guidance_inside == sdvar.Sampling(cfg=1.5)
    ours, clock = sdvar.Handoff(2, first="target"), Clock("cpu")
    sdvar.decode(pair, [0, 1], [0, 1], ours, sdvar.Sampling(cfg=1.5, top_k=8), images=False, clock=clock)
    assert [s.work.rows for s in clock.stretches() if s.part == "draft" and s.work.last] == [2, 2]
    with pytest.raises(SystemExit):
        main([f"--target={folder / 'draft.safetensors'}", f"--tokenizer={pair_files['tokenizer']}", "--depth=1"])
    assert "target: expected a model whose guidance takes a null branch" in capsys.readouterr().err


def test_a_draft_is_trained_to_run_rounded(distil, pair_files, capsys):
    options = "--depth 1 --width 32 --heads 2 --steps 20 --lr 0.01 --validate_every 10 --on_policy 0.2 --ema 0"
    folder = distil(f"{options} --rounded int4")
    losses = curve(folder, "val_kl")
    assert losses[-1] < 0.9 * losses[0]
    assert json.loads((folder / "draft.json").read_text())["rounded"] == "int4"
    files = {name: pair_files[name] for name in ("target", "tokenizer")}
    pair = sdvar.load_pair(draft=folder / "draft.safetensors", **files)
    assert pair.draft.cost().matrix_bytes == 1
    # what was validated is what runs: a training that changes nothing, begun with the file, has the same figures
    still = "--steps 1 --lr 1e-30 --weight_decay 0 --ema 0"
    again = distil(f"--init {folder / 'draft.safetensors'} --rounded int4 {still}", "again")
    assert curve(again, "val_kl")[-1] == pytest.approx(losses[-1], rel=1e-4)
    plain = distil(f"--init {folder / 'draft.safetensors'} {still}", "plain")
    assert curve(plain, "val_kl")[-1] != pytest.approx(losses[-1], rel=1e-4)
    assert json.loads((plain / "draft.json").read_text())["rounded"] is None
    assert sdvar.load_var(plain / "draft.safetensors").cost().matrix_bytes == 4
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([f"--target={folder / 'draft.safetensors'}", f"--tokenizer={pair_files['tokenizer']}", "--depth=1"])
    assert "target: expected a model whose weights are as its file has them" in capsys.readouterr().err


class StopAfter(Callback):
    """Ends a training as Ctrl-C does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer, *arguments) -> None:
        if trainer.global_step == self.steps:
            raise RuntimeError("stopped by the test")


def stop_after(steps: int, patched) -> None:
    make = job.Job._trainer

    def stopping(self):
        trainer = make(self)
        trainer.callbacks.append(StopAfter(steps))
        return trainer

    patched.setattr(job.Job, "_trainer", stopping)


@pytest.mark.parametrize(("stopped_at", "more"), [(5, " --rounded int4"), (8, "")])
def test_going_on_makes_the_same_weights(distil, monkeypatch, stopped_at, more):
    """To the bit, with accumulated gradients, averages, validations and prefixes of the draft's own on the way."""
    options = (
        "--depth 1 --width 32 --heads 2 --steps 8 --accumulate 2 --save_every 2 --validate_every 3 --on_policy 0.5"
    )
    options += more
    whole = distil(options, "whole")
    with monkeypatch.context() as patched:
        stop_after(stopped_at, patched)
        with pytest.raises(RuntimeError, match="stopped by the test"):
            distil(options, "parts")
    assert not (whole.parent / "parts" / "draft.safetensors").exists()
    parts = distil(options, "parts")
    ours, theirs = (load_file(folder / "draft.safetensors") for folder in (parts, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_it_stops_early_and_in_bfloat16_the_weights_stay_in_float32(distil):
    options = "--init layers=0 --precision bf16-mixed --lr 1e-30 --weight_decay 0 --steps 9 --patience 1"
    folder = distil(f"{options} --validate_every 1")
    assert json.loads((folder / "draft.json").read_text())["steps"] == 2  # the second validation brought nothing
    assert {weights.dtype for weights in load_file(folder / "draft.safetensors").values()} == {
        torch.float32,
        torch.int64,
    }


def test_options_come_from_a_config_too(distil, tmp_path):
    (tmp_path / "distil.yaml").write_text("init: layers=1\nsteps: 1\nsampling: {temperature: [1.1, 1.0, 1.0, 1.0]}\n")
    folder = distil(f"--config {tmp_path / 'distil.yaml'}")
    assert json.loads((folder / "draft.json").read_text())["sampling"]["temperature"] == [1.1, 1.0, 1.0, 1.0]


def test_a_role_trains_its_scales_alone(distil, pair):
    """What has no gradient keeps its value without weight decay: the positions after a coarse draft's scales."""
    options = "--init DRAFT --steps 2 --weight_decay 0 --ema 0 --save_every 9".replace("DRAFT", str(distil.draft))
    coarse = load_file(distil(f"{options} --role coarse --from_scale 2", "coarse") / "draft.safetensors")["pos_1LC"]
    moved = (coarse != pair.draft.state_dict()["pos_1LC"]).any(-1)[0]
    assert moved[:5].all() and not moved[5:].any()


def test_a_student_of_layers_begins_as_the_target(distil, pair):
    """With all of its layers it has nothing to learn."""
    folder = distil("--init layers=0,1 --steps 1 --lr 1e-30 --weight_decay 0 --role tail --from_scale 2")
    figures = json.loads((folder / "draft.json").read_text())["figures"]
    assert figures["val_kl"] < 1e-5 and figures["val_agreement"] > 0.99
    assert figures["val_tail_differing"] < 0.01 and figures["val_tail_distance"] < 0.01
    assert set(figures) == {"val_kl", "val_agreement", "val_tail_differing", "val_tail_distance"} | {
        f"val_{what}_{scale}" for what in ("kl", "agreement", "accepted") for scale in (2, 3)
    }


def test_what_a_draft_is_worth_is_said(distil, capsys):
    folder = distil("--init layers=0 --steps 1 --role tail --from_scale 2 --plan_seconds 0.01")
    figures = json.loads((folder / "draft.json").read_text())["figures"]
    expected = figures["expected"]
    assert 0 < figures["val_tail_differing"] < 1 and figures["val_tail_distance"] > 0
    said = capsys.readouterr().out
    for batch in (1, 64):
        at = expected[f"batch_{batch}"]
        assert at["target_calls"] == 1 and at["speed"] > 0 and at["strategy"].startswith("Handoff(entry=2")
        assert f"expected at batch {batch}: " in said


def test_tokens_count_by_what_their_scale_saves(distil, pair, monkeypatch):
    """That is measured, so a training that goes on has it from its checkpoint."""
    measure = Worth.savings
    monkeypatch.setattr(Worth, "savings", lambda *given: measured.append(measure(*given)) or measured[-1])
    monkeypatch.setattr(Worth, "of", lambda *given: {})
    measured: list[list[float]] = []
    options = "--init layers=0 --steps 2 --save_every 1 --loss_weights savings --plan_seconds 0.01"
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        with pytest.raises(RuntimeError, match="stopped by the test"):
            distil(options)
    (weights,) = measured
    folder = distil(options)
    assert json.loads((folder / "draft.json").read_text())["scale_weights"] == pytest.approx(weights, abs=1e-4)
    assert len(measured) == 1 and min(weights) > 0
    assert sum(n * weight for n, weight in zip(pair.pyramid.tokens, weights)) == pytest.approx(30)


def test_a_scale_counts_by_the_seconds_that_it_saves(pair):
    """Of a tail by its passes: 5, 7 and 9 seconds of the target's, 1 of the draft's."""
    seconds = {target_pass(k, k + 1): np.array([0.0, 3.0 + 2 * k]) for k in range(1, 4)}
    seconds |= {draft_pass(k, k): np.array([0.0, 1.0]) for k in range(1, 4)}
    worth = Worth(sdvar.Sampling(), Role("tail", 1, 4), 1.0)
    worth._costs[1] = CostTable(1, seconds)
    weights = np.array(worth.savings(pair))
    assert weights / weights[0] == pytest.approx([1, 6 / 4, 8 / 4])
    assert weights @ [4, 9, 16] == pytest.approx(29)


def test_stored_images_come_in_another_order_each_time():
    stored = StoredImages(np.arange(5), np.arange(5)[:, None] * 10, seed=1)
    labels, tokens = stored.images(torch.arange(10))
    assert sorted(labels[:5].tolist()) == sorted(labels[5:].tolist()) == list(range(5))
    assert labels[:5].tolist() != labels[5:].tolist()
    assert torch.equal(tokens[:, 0], labels * 10)


def command(pair_files, options: str, out) -> list[str]:
    """The same as a command line of its own process."""
    models = ["--target", str(pair_files["target"]), "--tokenizer", str(pair_files["tokenizer"])]
    words = [*models, *QUICK.split(), *options.split(), "--accelerator", "cpu", "--out", str(out)]
    return [sys.executable, "-m", "lightning_modules", "distil", *words]


@pytest.mark.proof
def test_a_killed_process_goes_on_to_the_same_weights(distil, pair_files, tmp_path):
    options = "--depth 1 --width 32 --heads 2 --steps 200 --save_every 5 --validate_every 50 --held_out 4"
    whole = load_file(distil(options, "whole") / "draft.safetensors")
    killed = tmp_path / "killed"
    process = subprocess.Popen(command(pair_files, options, killed), cwd=ROOT)
    while not (killed / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (killed / "draft.safetensors").exists()
    done = subprocess.run(command(pair_files, options, killed), cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    parts = load_file(killed / "draft.safetensors")
    assert parts.keys() == whole.keys() and all(torch.equal(parts[name], whole[name]) for name in whole)


@pytest.mark.proof
@pytest.mark.parametrize("more", ["", " --accumulate 2"])
def test_two_processes_train_as_one(distil, pair_files, tmp_path, more):
    """On the same images; only the order of sums differs."""
    options = "--depth 1 --width 32 --heads 2 --steps 4 --lr 0.001"
    one = load_file(distil(options, "one") / "draft.safetensors")
    words = command(pair_files, f"{options}{more} --devices 2", tmp_path / "two")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    two = load_file(tmp_path / "two" / "draft.safetensors")
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, atol=1e-5, rtol=1e-4)
