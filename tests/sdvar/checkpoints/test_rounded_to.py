"""A file says that its model is a draft whose blocks are rounded; loading, inspecting and converting keep that."""

import pytest
import torch
from safetensors.torch import load_file, save_file

import sdvar
from sdvar.checkpoints import CheckpointError
from sdvar.checkpoints.__main__ import main
from sdvar.models import quantized
from tests.random_pairs import random_pair, same_tokens


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Of a pair whose draft states a rounding."""
    pair, folder = random_pair((1, 2, 3), torch.float32), tmp_path_factory.mktemp("rounded")
    for name, metadata in (("draft", {"format": "pt", "rounded_to": "int4"}), ("target", None), ("tokenizer", None)):
        tensors = {key: value.contiguous() for key, value in getattr(pair, name).state_dict().items()}
        save_file(tensors, folder / f"{name}.safetensors", metadata)
    return {name: folder / f"{name}.safetensors" for name in ("draft", "target", "tokenizer")}


def test_it_runs_rounded_wherever_it_is_loaded_and_is_exact(files):
    pair = sdvar.load_pair(**files)
    full = sdvar.load_var(load_file(files["draft"]))
    copy = sdvar.draft_of(full, "target:int4")
    labels, inputs = torch.arange(3), torch.randn(3, pair.pyramid.length - 1, full.latent_channels)
    assert (pair.draft.rounded_to, pair.target.rounded_to, full.rounded_to) == ("int4", None, None)
    assert "rounded to int4" in repr(pair)
    for draft in (pair.draft, sdvar.load_var(files["draft"])):
        assert torch.equal(draft(labels, inputs), copy(labels, inputs))
        assert draft.cost().matrix_bytes == 1 and draft.weight_bytes() == copy.weight_bytes()
    ours, baseline = (
        sdvar.decode(pair, labels, labels, strategy, images=False)
        for strategy in (sdvar.Speculative(gamma=2), sdvar.Baseline())
    )
    assert same_tokens(ours, baseline)


def test_it_is_refused_as_the_target(files):
    with pytest.raises(CheckpointError, match=r"draft.safetensors: target: .* rounded to int4; give it as the draft"):
        sdvar.load_pair(draft="target:bf16", target=files["draft"], tokenizer=files["tokenizer"])


def test_inspect_says_so_and_convert_keeps_it(files, tmp_path, capsys):
    out = tmp_path / "half.safetensors"
    assert main(["convert", str(files["draft"]), str(out), "--dtype", "bfloat16"]) == 0
    half = load_file(out)
    assert torch.equal(half["blocks.0.ffn.fc1.weight"], load_file(files["draft"])["blocks.0.ffn.fc1.weight"].bfloat16())
    assert sdvar.load_var(out).rounded_to == "int4"
    assert main(["inspect", str(out), str(files["target"])]) == 0
    assert capsys.readouterr().out.count("rounded to int4: a draft whose blocks run with weights rounded so") == 1


def test_what_cannot_be_read_or_run_is_one_line_before_any_weights_are_loaded(files, tmp_path, monkeypatch):
    monkeypatch.setattr("sdvar.checkpoints.loading.fill", lambda *_: pytest.fail("loaded"))
    file = tmp_path / "wrong.safetensors"
    save_file(load_file(files["draft"]), file, {"rounded_to": "int8-dynamic"})
    with pytest.raises(CheckpointError, match=r"wrong.*: rounded_to: expected one of int8, int4, fp8, got 'int8-dyn"):
        sdvar.load_var(file)
    told = r"draft.safetensors: a draft whose blocks are rounded to int4, which"
    for load in (lambda dtype: sdvar.load_pair(**files, dtype=dtype), lambda dtype: sdvar.load_var(file, dtype=dtype)):
        save_file(load_file(files["draft"]), file := tmp_path / "draft.safetensors", {"rounded_to": "int4"})
        with pytest.raises(CheckpointError, match=f"{told} does not run on cpu in torch.float64; expected .*float32"):
            load(torch.float64)

    monkeypatch.undo()
    pair = sdvar.load_pair(**files)
    monkeypatch.setattr(quantized, "_runs", lambda kind, device, dtype: device == "cpu")  # moved to a GPU without int4
    with pytest.raises(ValueError, match="draft: a draft whose blocks are rounded to int4, which does not run on cuda"):
        sdvar.Engine().check(pair, torch.device("cuda"))

    def missing():
        raise ModuleNotFoundError("No module named 'torchao'", name="torchao")

    monkeypatch.setattr(quantized, "_torchao", missing)
    with pytest.raises(CheckpointError, match=f"{told} needs the package torchao, which comes with the commands"):
        sdvar.load_pair(**files)
