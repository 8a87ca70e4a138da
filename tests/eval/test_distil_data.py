"""A draft can be trained on the images that a run has kept, if they are those that it is to be trained for."""

import json

import pytest
import torch

import sdvar
from lightning_modules.distilling.command import main
from lightning_modules.distilling.stored import read_stored
from sdvar.checkpoints import digest

SAMPLING = {"cfg": 1.5, "top_k": 0, "top_p": 0.0, "temperature": 1.0}


def test_the_baselines_images_are_read(decoded, pair, pair_files):
    weights = {name: digest(pair_files[name]) for name in ("target", "tokenizer")}
    stored = read_stored(decoded, weights, SAMPLING, pair.pyramid.patch_nums, seed=0)
    again = sdvar.decode(pair, stored.labels, range(20), sdvar.Baseline(), sdvar.Sampling(**SAMPLING), images=False)
    assert torch.equal(stored.tokens, torch.cat(again.tokens, dim=1))
    with pytest.raises(ValueError, match=r"was made with sampling.top_k 0, expected 60; give a run that fits"):
        read_stored(decoded, weights, SAMPLING | {"top_k": 60}, pair.pyramid.patch_nums, seed=0)
    with pytest.raises(ValueError, match=r"was made with sampling.cfg_until None, expected 3; give a run that fits"):
        read_stored(decoded, weights, SAMPLING | {"cfg_until": 3}, pair.pyramid.patch_nums, seed=0)
    with pytest.raises(ValueError, match=r"was made with patch_nums \[1, 2, 3, 4\], expected \[1, 2, 4\]"):
        read_stored(decoded, weights, SAMPLING, (1, 2, 4), seed=0)
    with pytest.raises(ValueError, match=r"was made with weights of the target .*, expected other"):
        read_stored(decoded, weights | {"target": "other"}, SAMPLING, pair.pyramid.patch_nums, seed=0)


def test_a_draft_is_trained_on_them(decoded, pair_files, tmp_path):
    models = [f"--{name}={pair_files[name]}" for name in ("target", "tokenizer")]
    quick = "--init layers=0,1 --lr 1e-30 --weight_decay 0 --steps 1 --batch_size 4 --held_out 4 --plan_seconds 0"
    others = f"--top_k 0 --top_p 0 --accelerator cpu --threads 1 --data {decoded} --out {tmp_path / 'out'}"
    main([*models, *quick.split(), *others.split()])
    assert json.loads((tmp_path / "out" / "draft.json").read_text())["figures"]["val_kl"] < 1e-5
