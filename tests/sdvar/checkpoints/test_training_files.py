"""Models are found by their structure wherever a training script put them; which one of several is never guessed."""

from __future__ import annotations

import argparse
import collections
import datetime
import logging
import pathlib
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sdvar
from sdvar.checkpoints.__main__ import main
from tests.sdvar.checkpoints.bad_files import PATCH_NUMS, VAE, VAR, one_error

State = dict[str, Tensor]
OTHER = {key: value + 1 if key.startswith("head.") else value for key, value in VAR.items()}
DISCRIMINATOR = {"blocks.0.attn.proj.weight": torch.ones(2, 2), "head.bias": torch.ones(3)}
ADAM = {"state": {0: {"step": torch.ones(1), "exp_avg": torch.ones(2)}}, "param_groups": [{"params": [0], "lr": 1e-4}]}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def wrapped_blocks(state: State, *wrappers: str) -> State:
    return {key.replace("blocks.0.", f"blocks.0.{'.'.join(wrappers)}."): value for key, value in state.items()}


def loads(content: object, model: State, file: Path, path: str = "") -> bool:
    """Whether a file of that content gives this model, and none of its tensors is another's."""
    torch.save(content, file)
    name = f"{file}::{path}" if path else file
    loaded = sdvar.load_tokenizer(name, PATCH_NUMS) if model is VAE else sdvar.load_var(name)
    return all(torch.equal(value, model[key]) for key, value in loaded.state_dict().items())


ONE_VAR = {
    "model_state_dict": {"model_state_dict": VAR, "optimizer_state_dict": ADAM, "epoch": 3, "loss": 0.1},
    "generator": {"generator_state_dict": VAR, "discriminator_state_dict": DISCRIMINATOR},
    "generator inside": {"models": {"generator": VAR, "discriminator": DISCRIMINATOR}},
    "network": {"state_dict": prefixed(VAR, "net."), "pytorch-lightning_version": "2.6.6"},
    "any name": {"weights of mine": prefixed(VAR, "a.b.c.")},
    "beside a metric": {"state_dict": prefixed(VAR, "model.") | {"fid.sum": torch.ones(3), "loss.w": Tensor()}},
    "deepspeed": {"module": VAR, "ds_version": "0.15", "param_shapes": [{"head.bias": torch.Size([64])}]},
    "averaged": {"n_averaged": torch.tensor(3)} | prefixed(VAR, "module."),
    "averaged and compiled": {"n_averaged": torch.tensor(3)} | prefixed(VAR, "module._orig_mod."),
    "fsdp": prefixed(wrapped_blocks(VAR, "_fsdp_wrapped_module"), "_fsdp_wrapped_module."),
    "fsdp and checkpoints": wrapped_blocks(VAR, "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod"),
    "a wrapper nobody knows": prefixed(wrapped_blocks(VAR, "_turbo"), "wrapped_by_me."),
    "sequential": prefixed(VAR, "1."),
    "ema alone": {"ema": VAR, "args": None},
    "ema with updates": {"ema": {"module": VAR, "updates": 3}},
    "beside numbers": {**VAR, "epoch": 3, "best": 0.5},
    "list": {"models": [VAR]},
    "parameters": {"model": {k: torch.nn.Parameter(v, requires_grad=False) for k, v in VAR.items()}},
    "same model twice": {"model": VAR, "state_dict": VAR},
    "optimizer by names": {"net": VAR, "optimizer": {"state": {key: {"exp_avg": value} for key, value in VAR.items()}}},
    "optimizer by flat names": {"net": VAR, "optimizer": {f"{key}.exp_avg": value for key, value in VAR.items()}},
}  # fmt: skip
BOTH = {
    "prefixes": {"state_dict": prefixed(VAR, "var.") | prefixed(VAE, "vae.")},
    "prefixes under a wrapper": prefixed(prefixed(VAR, "transformer.") | prefixed(VAE, "vqvae."), "module."),
    "two places": {"var": VAR, "vae": prefixed(VAE, "_orig_mod.")},
    "trainer": {"trainer": {"var_wo_ddp": VAR, "vae_local": VAE, "var_opt": ADAM}, "epoch": 3},
    "one mapping": VAR | VAE,
    "inside": VAR | prefixed(VAE, "vae_proxy."),
    "list": [VAR, VAE],
}


@pytest.mark.parametrize("name", ONE_VAR)
def test_a_var_is_found(tmp_path, name, caplog):
    assert loads(ONE_VAR[name], VAR, tmp_path / "run.pth")
    assert not caplog.records


@pytest.mark.parametrize("name", BOTH)
def test_a_file_of_both_models_serves_for_both(tmp_path, name, caplog):
    assert loads(BOTH[name], VAR, tmp_path / "run.pth")
    assert loads(BOTH[name], VAE, tmp_path / "run.pth")
    assert not caplog.records


# content, what is taken, the rule
TAKEN = {
    "ema first": ({"ema": OTHER, "model": VAR}, "model", "the only one that is no moving average"),
    "state_dict_ema": ({"state_dict": VAR, "state_dict_ema": OTHER}, "state_dict", "that is no moving average"),
    "prefixes": ({**prefixed(OTHER, "ema_model."), **prefixed(VAR, "online.")}, "online", "that is no moving average"),
    "in camels": ({"net": VAR, "netEMA": OTHER}, "net", "that is no moving average"),
    "lightning": ({"current_model_state": OTHER, "state_dict": VAR}, "state_dict", "under model or state_dict"),
    "best": ({"best_model": OTHER, "model": VAR}, "model", "the only one under model or state_dict"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_which_of_several_is_taken_is_said(tmp_path, name, caplog):
    content, place, rule = TAKEN[name]
    file = tmp_path / "run.pth"
    with caplog.at_level(logging.WARNING):
        assert loads(content, VAR, file)
    [record] = caplog.records
    message = record.getMessage()
    assert message.startswith(f"{file}: holds 2 VARs (") and f"taken: {place}, " in message and rule in message
    other = message.partition(f"{file}::")[2]
    assert loads(content, OTHER, file, other) and loads(content, VAR, file, place)
    assert len(caplog.records) == 1


def test_without_a_rule_the_user_chooses(tmp_path):
    file = tmp_path / "pair.pth"
    torch.save({"draft": OTHER, "target": VAR}, file)
    message = one_error(lambda: sdvar.load_var(file), str(file))
    assert f"holds 2 VARs: draft, target; choose one as {file}::draft" in message
    assert loads({"draft": OTHER, "target": VAR}, VAR, file, "target")
    assert "nothing at 'none' in it; it holds draft (VAR), target (VAR)" in one_error(
        lambda: sdvar.load_var(f"{file}::none"), str(file)
    )


def test_a_path_to_tensors_that_another_model_shares(tmp_path):
    shared = {key: value.view_as(value) for key, value in VAR.items()}
    assert loads({"model": VAR, "ema": shared}, VAR, tmp_path / "run.pth")
    assert loads({"model": VAR, "ema": shared}, VAR, tmp_path / "run.pth", "ema")
    assert loads({"model": VAR, "ema": VAR}, VAR, tmp_path / "run.pth", "ema")


def test_a_few_bytes_that_are_any_number_of_places(tmp_path):
    lists: list = [VAR]
    for _ in range(60):
        lists = [lists, lists]
    assert loads({"model": VAR, "lists": lists}, VAR, tmp_path / "run.pth")
    assert main(["inspect", str(tmp_path / "run.pth")]) == 0


@pytest.mark.parametrize("path", ["state_dict.var", "var", "state_dict"])
def test_a_path_may_be_short_where_one_model_fits(tmp_path, path):
    assert loads(BOTH["prefixes"], VAR, tmp_path / "run.pth", path)


def test_a_file_with_colons_in_its_name(tmp_path):
    assert loads({"ema": OTHER, "model": VAR}, OTHER, tmp_path / "a::b.pth", "ema")
    torch.save(VAR, tmp_path / "run.pth::ema")
    assert sdvar.load_var(tmp_path / "run.pth::ema").depth == 2


def test_a_path_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({"ema": VAR}, tmp_path / "run.pth")
    assert sdvar.load_var("~/run.pth").depth == sdvar.load_var("~/run.pth::ema").depth == 2


def test_the_path_is_part_of_what_identifies_weights(tmp_path):
    torch.save({"ema": OTHER, "model": VAR}, tmp_path / "run.pth")
    digests = {sdvar.checkpoints.digest(f"{tmp_path / 'run.pth'}{end}") for end in ("", "::ema", "::model")}
    assert len(digests) == 3 and sdvar.checkpoints.sha256(tmp_path / "run.pth") in digests


class AttrDict(dict):
    """A dictionary with attributes, as people write it themselves."""

    def __init__(self, *arguments: object, **entries: object) -> None:
        super().__init__(*arguments, **entries)
        self.__dict__ = self


EXTRAS = {
    "own dictionary": AttrDict(depth=16, inner=AttrDict(width=3)),
    "constants": [Ellipsis, NotImplemented, 1j, bytearray(b"a")],
    "namespace": argparse.Namespace(depth=16, out=pathlib.Path("runs"), seen={1, 2}),
    "simple namespace": types.SimpleNamespace(depth=16),
    "numpy scalars": {"loss": np.float64(0.1), "step": np.int64(3), "done": np.bool_(True), "name": np.str_("a")},
    "numpy arrays": [np.arange(3), np.array(["a", None], dtype=object), np.dtype("float32")],
    "random state": {"numpy": np.random.get_state(), "generator": np.random.default_rng(0)},
    "paths": [pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("b")],
    "collections": [collections.defaultdict(list, a=[1]), collections.deque([1, 2], 3), collections.Counter("ab")],
    "times": [datetime.datetime(2026, 1, 1), datetime.timedelta(1)],
    "sets": {"names": frozenset(["a"]), "steps": range(3), "cut": slice(1, 2)},
    "torch": {"device": torch.device("cpu"), "dtype": torch.float16, "size": torch.Size([1]), "at": torch.__version__},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", EXTRAS)
def test_harmless_extras_are_read_past(tmp_path, name, legacy):
    file, allowed = tmp_path / "run.pth", torch.serialization.get_safe_globals()
    torch.save({"args": EXTRAS[name], "model": VAR}, file, _use_new_zipfile_serialization=not legacy)
    assert sdvar.load_var(file).depth == 2
    assert sorted(map(str, torch.serialization.get_safe_globals())) == sorted(map(str, allowed))


def test_a_model_in_a_default_dict(tmp_path):
    assert loads(collections.defaultdict(dict, model=collections.defaultdict(None, VAR)), VAR, tmp_path / "run.pth")


def test_a_mapping_that_holds_itself(tmp_path):
    content = {"model": VAR}
    content["self"] = content
    assert loads(content, VAR, tmp_path / "run.pth")
    assert main(["inspect", str(tmp_path / "run.pth")]) == 0


def test_inspect_lists_every_model_and_what_else_is_there(tmp_path, capsys):
    file = tmp_path / "run.pth"
    args = argparse.Namespace(depth=16)
    torch.save({"model": VAR, "ema": OTHER, "vae": VAE, "args": args, "optimizer": ADAM, "epoch": 3}, file)
    assert main(["inspect", str(file)]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for path, kind in (("model", "VAR"), ("ema", "VAR"), ("vae", "tokenizer")):
        assert f"{file}::{path} {kind}" in text or f"::{path}" in text
    assert f"{file}::ema: 38 tensors: pos_start (1, 1, 64), pos_1LC (1, 30, 64)" in text
    assert f"{file}: also holds args (argparse.Namespace), optimizer (dict of state, param_groups), epoch (int)" in text
    assert main(["inspect", f"{file}::vae", "--shapes"]) == 0
    text = capsys.readouterr().out
    assert "::ema" not in text and "--shapes" not in text
    assert all(f"{key} {tuple(value.shape)}" in text for key, value in VAE.items())


def test_inspect_prints_names_of_a_file_without_line_feeds_or_escape_sequences(tmp_path, capsys):
    torch.save({"\x1b[31mmodel": VAR, "epoch\n": 3}, tmp_path / "run.pth")
    assert main(["inspect", str(tmp_path / "run.pth")]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text and r"::\x1b[31mmodel: 38 tensors" in text and r"also holds epoch\n (int)" in text


def test_convert_takes_a_path(tmp_path):
    torch.save({"model": VAR, "ema": OTHER}, tmp_path / "run.pth")
    assert main(["convert", f"{tmp_path / 'run.pth'}::ema", str(tmp_path / "ema.safetensors")]) == 0
    assert torch.equal(sdvar.load_var(tmp_path / "ema.safetensors").head.bias, OTHER["head.bias"])


def without_qk_norm(width: int, heads: int) -> sdvar.VAR:
    return sdvar.VAR((1, 2), 3, 1, width, heads, codebook_size=8, latent_channels=4, qk_norm=False)


def test_heads_without_qk_norm_are_given_or_said_to_be_a_guess(tmp_path, caplog, capsys):
    state = without_qk_norm(128, 4).state_dict()
    assert sdvar.load_var(state, heads=4).heads == 4 and not caplog.records
    assert sdvar.load_var(state).heads == 2
    assert "2 heads are a guess, its width over 64; give heads" in caplog.records.pop().getMessage()
    torch.save(state, tmp_path / "var.pth")
    assert main(["convert", str(tmp_path / "var.pth"), str(tmp_path / "var.safetensors"), "--heads", "4"]) == 0
    assert sdvar.load_var(tmp_path / "var.safetensors").heads == 4 and not caplog.records
    assert main(["inspect", *(str(tmp_path / f"var.{suffix}") for suffix in ("pth", "safetensors"))]) == 0
    printed = capsys.readouterr().out
    assert "2?" in printed and printed.count("a guess") == 1
    with pytest.raises(sdvar.CheckpointError, match="128 does not divide into 3 heads; give the number"):
        sdvar.load_var(state, heads=3)
    with pytest.raises(ValueError, match="heads: expected an int >= 1, got 0"):
        sdvar.load_var(state, heads=0)
    with pytest.raises(sdvar.CheckpointError, match="its width of 96 is no multiple of 64"):
        sdvar.load_var(without_qk_norm(96, 2).state_dict())
    with pytest.raises(sdvar.CheckpointError, match="heads is 2 in the file, but 4 was given"):
        sdvar.load_var(VAR, heads=4)


def test_heads_of_a_pair():
    model, tokenizer = without_qk_norm(128, 4), sdvar.VQVAE((1, 2), 8, 4, 32, (1, 1), 1)
    sources = {"draft": model.state_dict(), "target": model.state_dict(), "tokenizer": tokenizer.state_dict()}
    pair = sdvar.load_pair(**sources, heads={"draft": 4, "target": 8})
    assert (pair.draft.heads, pair.target.heads) == (4, 8)
    with pytest.raises(ValueError, match="heads: expected draft and target as keys, got 'tokenizer'"):
        sdvar.load_pair(**sources, heads={"tokenizer": 1})
