"""A file says that its model has guidance inside; loading, inspecting and converting keep that."""

import json

import pytest
import torch
from safetensors.torch import save_file

import sdvar
from sdvar.checkpoints import CheckpointError
from sdvar.checkpoints.__main__ import main
from tests.random_pairs import random_pair

INSIDE = sdvar.Sampling(cfg=1.5, cfg_until=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Of a pair whose draft has guidance inside."""
    pair, folder = random_pair((1, 2, 3), torch.float32), tmp_path_factory.mktemp("inside")
    stated = {"format": "pt", "guidance_inside": json.dumps({"cfg": 1.5, "cfg_until": 2})}
    for name, metadata in (("draft", stated), ("target", None), ("tokenizer", None)):
        tensors = {key: value.contiguous() for key, value in getattr(pair, name).state_dict().items()}
        save_file(tensors, folder / f"{name}.safetensors", metadata)
    return {name: folder / f"{name}.safetensors" for name in ("draft", "target", "tokenizer")}


def test_it_loads_like_any_other(files):
    pair = sdvar.load_pair(**files)
    assert (pair.draft.guidance_inside, pair.target.guidance_inside) == (INSIDE, None)
    assert sdvar.load_var(files["draft"], dtype=torch.bfloat16).guidance_inside == INSIDE


def test_it_is_refused_as_the_target(files):
    with pytest.raises(
        CheckpointError, match=r"draft.safetensors: target: .* guidance inside for cfg 1.5 until scale 2"
    ):
        sdvar.load_pair(draft="target:bf16", target=files["draft"], tokenizer=files["tokenizer"])


def test_inspect_says_so_and_convert_keeps_it(files, tmp_path, capsys):
    out = tmp_path / "half.safetensors"
    assert main(["convert", str(files["draft"]), str(out), "--dtype", "bfloat16"]) == 0
    assert sdvar.load_var(out).guidance_inside == INSIDE
    assert main(["inspect", str(out), str(files["target"])]) == 0
    assert capsys.readouterr().out.count("guidance inside for cfg 1.5 until scale 2: a draft whose passes have no") == 1


def test_what_cannot_be_read_is_one_line(files, tmp_path):
    model = sdvar.load_var(files["draft"])
    file = tmp_path / "wrong.safetensors"
    save_file(model.state_dict(), file, {"guidance_inside": "yes"})
    with pytest.raises(
        CheckpointError, match=r"wrong.safetensors: guidance inside: expected cfg and cfg_until, got 'yes'"
    ):
        sdvar.load_var(file)
