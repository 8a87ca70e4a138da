"""Images are stored as tokens, and a draft is trained on those that it is to be trained for."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

import sdvar
from eval import tokens
from eval.metrics.images.sets import center_crop, to_tensor
from lightning_modules.data.fashion_mnist import to_signed
from lightning_modules.distilling.command import main as distil
from lightning_modules.distilling.teaching.images import Images
from lightning_modules.distilling.teaching.teacher import Teacher
from lightning_modules.distilling.tokens import makers
from lightning_modules.distilling.tokens.shards import Origin, read_origin, shards, write_shard
from lightning_modules.distilling.tokens.stored import Wanted, read_stored
from tests.eval.tokens import SAMPLING
from tests.paths import ROOT


def contents(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in shards(folder)}


def test_the_targets_images_are_stored(stored, pair, wanted):
    """Those that a training with the same seed would sample."""
    labels, seeds = Images(0, 5, 1).of(torch.arange(10))
    made = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), sdvar.Sampling(**SAMPLING), images=False)
    expected = torch.cat(made.tokens, dim=1)
    files = shards(stored)
    assert [file.name for file in files] == [f"{first:010d}.parquet" for first in (0, 4, 8)]
    table = datasets.concatenate_datasets([datasets.Dataset.from_parquet(str(file)) for file in files])
    assert table["label"][:] == labels.tolist() and table["seed"][:] == seeds.tolist()
    assert table.features["tokens"].feature.dtype == "uint16"
    assert np.array_equal(table.with_format("numpy")["tokens"][:], expected.numpy())
    origin = read_origin(files[0])
    assert origin == Origin("target", wanted.weights["tokenizer"], [1, 2, 3, 4], wanted.weights["target"], SAMPLING, 0)
    images = read_stored(stored, wanted, seed=3)
    first, again = (images.images(torch.arange(start, start + 10)) for start in (0, 10))
    for got_labels, got in (first, again):
        assert sorted(got.tolist()) == sorted(expected.tolist()) and got_labels.tolist() != labels.tolist()
    assert not torch.equal(first[1], again[1])


def test_the_same_command_makes_what_is_missing_and_no_more(store, stored, tmp_path, monkeypatch, capsys):
    out = shutil.copytree(stored, tmp_path / "tokens")
    (out / "0000000004.parquet").unlink()
    made = []
    step = makers.TokenSampler.predict_step
    monkeypatch.setattr(
        makers.TokenSampler,
        "predict_step",
        lambda self, batch, number: made.extend(batch["index"].tolist()) or step(self, batch, number),
    )
    store("--images 10", out)
    assert contents(out) == contents(stored) and made == [4, 5, 6, 7]
    store("--images 12", out)
    assert made[4:] == [10, 11]
    store("--images 12", out)
    assert len(made) == 6 and "has 12 images already" in capsys.readouterr().out


@pytest.mark.proof
def test_two_processes_store_the_images_of_one(models, stored, wanted, tmp_path):
    quick = "--top_k 0 --top_p 0 --batch_size 2 --shard 4 --accelerator cpu --threads 1 --images 10 --devices 2"
    words = [sys.executable, "eval/tokens.py", *models, *quick.split(), "--out", str(tmp_path / "two")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert [int(file.stem) for file in shards(tmp_path / "two")] == [0, 2, 8]  # of batches 0 and 2, 1 and 3, 4
    one, two = (read_stored(folder, wanted, seed=0) for folder in (stored, tmp_path / "two"))
    assert np.array_equal(one.labels, two.labels) and np.array_equal(one.tokens, two.tokens)


def test_what_was_made_before_an_interruption_is_kept(store, tmp_path, monkeypatch):
    step = makers.TokenSampler.predict_step

    def interrupted(self, batch, number):
        if number == 1:
            raise RuntimeError("stopped by the test")
        return step(self, batch, number)

    with monkeypatch.context() as patched:
        patched.setattr(makers.TokenSampler, "predict_step", interrupted)
        with pytest.raises(RuntimeError, match="stopped by the test"):
            store("--images 8 --shard 100", tmp_path / "tokens")
    assert [file.name for file in shards(tmp_path / "tokens")] == ["0000000000.parquet"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("--images 10 --top_k 5", "has shards with sampling {'cfg': 1.5, 'top_k': 0"),
        ("--images 10 --seed 1", "has shards with seed 0, expected 1; give another folder"),
        ("--images 0", "images: expected an int >= 1, got 0"),
        ("--images 4 --devices 0", "devices: expected an int from 1 to 128"),
        ("--images 4 --seed -1", "seed: expected an int from 0 to"),
        ("--images 4 --pair tiny", "expected --pair, or --target and --tokenizer together"),
    ],
)
def test_a_mistake_in_storing_costs_one_line(store, stored, options, error, capsys):
    before = contents(stored)
    with pytest.raises(SystemExit) as stopped:
        store(options, stored)
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and said.startswith("eval/tokens.py: error: ") and error in said
    assert contents(stored) == before


@pytest.mark.parametrize("out, error", [
    ("", "expected the path of a folder, got ''"),
    ("a\0b", "expected the path of a folder, got "),
    ("a_file", "a_file cannot be written ("),
    ("a_file/in/it", "a_file/in/it cannot be written ("),
])  # fmt: skip
def test_a_place_that_can_be_no_folder_costs_one_line(store, out, error, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a_file").touch()
    with pytest.raises(SystemExit):
        store("--images 4", out)
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith(f"eval/tokens.py: error: out: {error}")
    assert os.listdir() == ["a_file"]


def test_a_filter_that_keeps_everything_is_said(pair, caplog):
    Teacher(pair.target, pair.tokenizer, sdvar.Sampling(top_k=900))
    assert caplog.messages == ["sampling.top_k: 900 keeps all 24 tokens of the codebook"]


def test_images_of_a_users_own_are_encoded(store, photos, pair, wanted, tmp_path):
    names, labels = ("1/c.png", "1/deep/d.png", "3/a.png", "3/b.png"), [1, 1, 3, 3]
    pixels = torch.stack([center_crop(to_tensor(Image.open(photos / name)), 32) for name in names])
    expected = torch.cat(pair.tokenizer.encode(to_signed(pixels)), dim=1)
    store(f"--encode {photos} --batch_size 3", tmp_path / "folder")
    table = {"image": [{"bytes": (photos / name).read_bytes()} for name in names], "label": labels}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_dict(table, features).to_parquet(tmp_path / "photos.parquet")
    store(f"--encode {tmp_path / 'photos.parquet'} --images 3", tmp_path / "parquet")
    for name, count in (("folder", 4), ("parquet", 3)):
        images = read_stored(tmp_path / name, wanted, seed=0)
        assert images.labels.tolist() == labels[:count] and np.array_equal(images.tokens, expected[:count].numpy())
        assert read_origin(shards(tmp_path / name)[0]).sampling is None


@pytest.mark.parametrize(
    ("change", "options", "error"),
    [
        (
            "3/b.png > 7/b.png",
            "",
            "7: expected a sub-folder named by its class; labels: expected classes 0 to 4, got 7",
        ),
        ("3/b.png > b.png", "", "b.png is in no sub-folder; expected each image in one that is named by its class"),
        ("3/b.png > 0-4/b.png", "", "0-4: expected a sub-folder named by one class, got 5"),
        ("3 > none", "", "none: expected a sub-folder named by its class; labels: "),
        ("3/b.png > 3/b.txt", "--images 9", "images: "),
        ("3/b.png > 3/b.txt", "--encode nowhere", "nowhere is neither; expected a folder with a sub-folder per class"),
    ],
)
def test_images_without_a_class_are_refused(store, photos, change, options, error, tmp_path, capsys):
    folder = shutil.copytree(photos, tmp_path / "photos")
    before, after = (folder / name for name in change.split(" > "))
    after.parent.mkdir(exist_ok=True)
    before.rename(after)
    with pytest.raises(SystemExit):
        store(f"--encode {folder} {options}", tmp_path / "tokens")
    assert error in capsys.readouterr().err and not (tmp_path / "tokens").exists()


def test_the_baselines_images_of_a_run_are_read_too(decoded, pair, wanted):
    images = read_stored(decoded, wanted, seed=0)
    again = sdvar.decode(pair, images.labels, range(20), sdvar.Baseline(), sdvar.Sampling(**SAMPLING), images=False)
    assert np.array_equal(images.tokens, torch.cat(again.tokens, dim=1).numpy())


@pytest.mark.parametrize("source", ["stored", "decoded"])
def test_tokens_of_something_else_are_refused(source, wanted, request):
    folder = request.getfixturevalue(source)
    for change, error in (
        ({"sampling": SAMPLING | {"top_k": 60}}, "was made with sampling.top_k 0, expected 60; give tokens that fit"),
        ({"sampling": SAMPLING | {"cfg_until": 3}}, "was made with sampling.cfg_until None, expected 3"),
        ({"patch_nums": (1, 2, 4)}, r"was made with patch_nums \[1, 2, 3, 4\], expected \[1, 2, 4\]"),
        ({"weights": wanted.weights | {"target": "b"}}, r"was made with weights of the target \w+, expected b"),
        ({"weights": wanted.weights | {"tokenizer": "b"}}, r"was made with weights of the tokenizer \w+, expected b"),
        ({"classes": 3}, "expected labels 0 to 2, got 0 to 4"),
    ):
        with pytest.raises(ValueError, match=error):
            read_stored(folder, Wanted(**vars(wanted) | change), seed=0)


def test_images_of_nobodys_sampling_fit_any(wanted, tmp_path):
    origin = Origin("photos", wanted.weights["tokenizer"], [1, 2, 3, 4])
    write_shard(tmp_path, origin, [1, 0], [4, 3], [None, None], np.arange(60).reshape(2, 30))
    images = read_stored(tmp_path, wanted, seed=0)
    assert images.labels.tolist() == [3, 4] and images.tokens[0].tolist() == list(range(30, 60))


def test_damaged_shards_are_refused(stored, wanted, tmp_path):
    out = shutil.copytree(stored, tmp_path / "tokens")
    (out / "0000000004.parquet").write_bytes((out / "0000000004.parquet").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"0000000004.parquet is damaged .* the command that made it makes its images"):
        read_stored(out, wanted, seed=0)
    shutil.copy(out / "0000000000.parquet", out / "0000000004.parquet")
    with pytest.raises(ValueError, match=r"0000000004.parquet has images that another shard beside it has too"):
        read_stored(out, wanted, seed=0)
    datasets.Dataset.from_dict({"a": [1]}).to_parquet(out / "0000000004.parquet")
    with pytest.raises(ValueError, match=r"0000000004.parquet is no shard of tokens"):
        read_stored(out, wanted, seed=0)
    with pytest.raises(ValueError, match=r"has no token shards; as a run: .* contains no run"):
        read_stored(tmp_path / "nowhere", wanted, seed=0)


@pytest.mark.parametrize("source", ["stored", "decoded"])
def test_a_draft_is_trained_on_them(source, models, tmp_path, request, capsys):
    quick = "--init layers=0,1 --lr 1e-30 --weight_decay 0 --steps 1 --batch_size 4 --held_out 4 --plan_seconds 0"
    others = f"--top_k 0 --top_p 0 --accelerator cpu --threads 1 --tokens {request.getfixturevalue(source)}"
    words = [*models, *quick.split(), *others.split()]
    distil([*words, "--out", str(tmp_path / "out")])
    card = json.loads((tmp_path / "out" / "draft.json").read_text())
    assert card["figures"]["val_kl"] < 1e-5 and len(card["settings"]["tokens"]) == 64
    with pytest.raises(SystemExit):
        distil([*words, "--cfg", "2", "--out", str(tmp_path / "other")])
    assert "was made with sampling.cfg 1.5, expected 2.0; give tokens that fit" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_command_line_is_parsed():
    given = tokens.parse(["--images=4", "--cfg=2"])
    assert given.pair == "tiny" and given.sampling.cfg == 2 and given.sampling.top_k == 60
