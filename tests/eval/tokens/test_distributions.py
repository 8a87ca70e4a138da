"""Stored tokens with the target's distributions, on which a training does not run the target."""

import json

import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file

import sdvar
from lightning_modules.distilling.command import main as distil
from lightning_modules.distilling.distiller import Distiller
from lightning_modules.distilling.teaching.images import HELD_OUT
from lightning_modules.distilling.teaching.teacher import Teacher
from lightning_modules.distilling.tokens.shards import KEY, shards
from lightning_modules.distilling.tokens.stored import Wanted, read_stored

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def kept(store, tmp_path_factory):
    """The ten images with their distributions."""
    out = tmp_path_factory.mktemp("kept") / "tokens"
    store("--images 10 --top_k 8 --distributions", out)
    return out


@pytest.fixture
def fitting(wanted):
    """What a training asks for that they fit."""
    return Wanted(**vars(wanted) | {"sampling": wanted.sampling | {"top_k": 8}})


@pytest.fixture
def learn(models, kept, tmp_path):
    """Trains a draft on them; returns the folder."""

    def run(options: str, name: str):
        quick = "--init layers=1 --steps 6 --lr 0.01 --warmup 1 --batch_size 4 --held_out 4 --plan_seconds 0 --top_k 8"
        others = f"--top_p 0 --accelerator cpu --threads 1 --save_every 2 --tokens {kept}"
        distil([*models, *quick.split(), *others.split(), *options.split(), "--out", str(tmp_path / name)])
        return load_file(tmp_path / name / "draft.safetensors")

    return run


def test_kept_distributions_are_the_targets(kept, stored, pair, wanted, fitting):
    images, numbers = read_stored(kept, fitting, seed=3), torch.arange(10)
    labels, tokens = images.images(numbers)
    teacher = Teacher(pair.target, pair.tokenizer, sdvar.Sampling(**fitting.sampling))
    expected = teacher.lesson(labels, numbers, 4, known=tokens).logits
    got = images.logits(numbers, pair.target.codebook_size, CPU)
    assert torch.equal(got.isfinite(), expected.isfinite())
    torch.testing.assert_close(got.softmax(-1), expected.softmax(-1), atol=2e-4, rtol=0)
    assert read_stored(stored, wanted, seed=3).distributions is None


def test_distributions_of_some_files_are_not_used_and_that_is_said(kept, fitting, tmp_path, caplog):
    table = parquet.read_table(shards(kept)[0])
    origin = json.loads(table.schema.metadata[KEY]) | {"distributions": False}
    without = table.slice(2).drop_columns(["kept", "logits"]).replace_schema_metadata({KEY: json.dumps(origin)})
    parquet.write_table(table.slice(0, 2), tmp_path / "0.parquet")
    parquet.write_table(without, tmp_path / "2.parquet")
    images = read_stored(tmp_path, fitting, seed=3)
    assert images.distributions is None and len(images.labels) == table.num_rows
    assert "1 of 2 files" in caplog.text


def test_a_training_on_them_runs_no_target_and_goes_on_to_the_same_weights(learn, monkeypatch):
    """In steps whose prefixes are the draft's own it does run, and in validations."""
    lesson, on_policy = Teacher.lesson, []

    def watched(self, labels, seeds, last, student=None, *rest, **others):
        on_policy.extend([student is not None] if len(labels) == 4 and seeds.min() < HELD_OUT else [])
        return lesson(self, labels, seeds, last, student, *rest, **others)

    monkeypatch.setattr(Teacher, "lesson", watched)
    whole = learn("--on_policy 0.34", "whole")
    assert on_policy == [True, True]
    step = Distiller.training_step

    def interrupted(self, batch):
        if batch == 3:
            raise RuntimeError("stopped by the test")
        return step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Distiller, "training_step", interrupted)
        with pytest.raises(RuntimeError, match="stopped by the test"):
            learn("--on_policy 0.34", "parts")
    parts = learn("--on_policy 0.34", "parts")
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_distributions_of_something_else_are_refused(
    learn, store, kept, photos, pair, wanted, fitting, tmp_path, capsys
):
    def refused(run) -> str:
        with pytest.raises(SystemExit):
            run()
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert "was made with sampling.top_k 8, expected 4" in refused(lambda: learn("--top_k 4", "other"))
    assert not (tmp_path / "other").exists()
    assert "distributions True, expected False; give" in refused(lambda: store("--images 12 --top_k 8", kept))
    store(f"--encode {photos} --top_k 8 --distributions", tmp_path / "photos")
    with pytest.raises(ValueError, match=r"was made with sampling.top_k 8, expected 0"):
        read_stored(tmp_path / "photos", wanted, seed=0)
    logits = read_stored(tmp_path / "photos", fitting, seed=0).logits(torch.arange(4), pair.target.codebook_size, CPU)
    assert (logits.isfinite().sum(-1) == 8).all()
