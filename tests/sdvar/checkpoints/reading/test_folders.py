"""Folders of shards load as one file does; other folders, and names that are no file, get the sentence that helps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint import state_dict_saver

import sdvar
from sdvar.checkpoints.__main__ import main
from tests.sdvar.checkpoints.bad_files import LFS_POINTER, VAR, one_error


def sharded(folder: Path, form: str, count: int = 3) -> Path:
    """A VAR in shards, as transformers and diffusers save them; returns the index."""
    stem, suffix = ("model", "safetensors") if form == "safetensors" else ("pytorch_model", "bin")
    names = [f"{stem}-{number:05}-of-{count:05}.{suffix}" for number in range(1, count + 1)]
    places = {key: names[number % count] for number, key in enumerate(VAR)}
    for name in names:
        state = {key: VAR[key].contiguous() for key, place in places.items() if place == name}
        save_file(state, folder / name) if suffix == "safetensors" else torch.save(state, folder / name)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_shards_load_by_folder_and_by_index(tmp_path, form, capsys):
    index = sharded(tmp_path, form)
    (tmp_path / "config.json").write_text("{}")
    for source in (tmp_path, index, f"{tmp_path}/"):
        loaded = sdvar.load_var(source).state_dict()
        assert all(torch.equal(value, VAR[key]) for key, value in loaded.items())
    assert sdvar.checkpoints.digest(tmp_path) == sdvar.checkpoints.digest(index)
    assert main(["inspect", str(tmp_path)]) == 0 and "VAR" in capsys.readouterr().out
    assert main(["convert", str(tmp_path), str(tmp_path / "whole.safetensors")]) == 0
    assert sdvar.load_var(tmp_path / "whole.safetensors").depth == 2


def test_the_digest_follows_every_shard(tmp_path):
    sharded(tmp_path, "bin")
    before = sdvar.checkpoints.digest(tmp_path)
    shard = tmp_path / "pytorch_model-00002-of-00003.bin"
    torch.save({key: value + 1 for key, value in torch.load(shard).items()}, shard)
    assert sdvar.checkpoints.digest(tmp_path) != before


def test_safetensors_are_taken_where_a_folder_has_both(tmp_path):
    sharded(tmp_path, "safetensors")
    sharded(tmp_path, "bin")
    for shard in tmp_path.glob("*.bin"):
        shard.write_bytes(b"not these")
    assert sdvar.load_var(tmp_path).depth == 2


def refused(source: object, *words: str) -> None:
    message = one_error(lambda: sdvar.load_var(source), str(source))
    for word in words:
        assert word in message


def test_shards_that_are_missing_or_damaged(tmp_path):
    index = sharded(tmp_path, "safetensors")
    first, second, third = sorted(tmp_path.glob("*.safetensors"))
    refused(second, f"one of several shards; give the folder or {index.name}")
    content = second.read_bytes()
    second.write_bytes(LFS_POINTER)
    refused(tmp_path, second.name, "a Git LFS pointer")
    second.write_bytes(content[:-9])
    refused(tmp_path, second.name, "damaged, cut off")
    second.write_bytes(first.read_bytes())
    refused(tmp_path, f"{second.name} lacks", "which the index lists for it; download it again")
    second.unlink()
    third.unlink()
    refused(tmp_path, f"2 of 3 shards missing: {second.name}, {third.name}")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": []}', "[" * 100_000])
def test_a_damaged_index(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    refused(tmp_path, "model.safetensors.index.json is no index of shards; expected a weight_map")


@pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "b/a.bin", "..", "", 3, "b\\a.bin"])
def test_an_index_names_files_beside_it_alone(tmp_path, name):
    torch.save(VAR, tmp_path / "a.bin")
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(VAR, name)}))
    refused(folder, f"names {name!r}; expected the name of a file beside it")


@pytest.mark.parametrize("name, words", [("a" * 5000, "File name too long"), ("a\0b", "embedded null byte")])
def test_names_that_no_file_can_have(name, words):
    assert words in one_error(lambda: sdvar.load_var(name))


def test_a_name_like_that_of_a_file_beside_it(tmp_path):
    (tmp_path / "last.pth").touch()
    refused(tmp_path / "last.pth ", "no such file", "did you mean last.pth?")
    refused(tmp_path / "else.pth", "expected a .pth or .safetensors checkpoint")


@pytest.mark.parametrize("name, words", [("none.pth", "no such file"), ("empty.pth", "the file is empty")])
def test_the_digest_of_what_is_no_file_says_so(tmp_path, name, words):
    (tmp_path / "empty.pth").touch()
    assert words in one_error(lambda: sdvar.checkpoints.digest(tmp_path / name), name)


def test_an_index_that_an_editor_saved(tmp_path):
    index = sharded(tmp_path, "safetensors")
    index.write_text(index.read_text(), encoding="utf-8-sig")
    assert sdvar.load_var(tmp_path).depth == 2


def test_several_indices(tmp_path):
    index = sharded(tmp_path, "bin")
    index.with_name("other.bin.index.json").write_bytes(index.read_bytes())
    refused(tmp_path, "a folder with 2 indices; give one of other.bin.index.json, pytorch_model.bin.index.json")
    assert sdvar.load_var(index).depth == 2


def test_a_folder_of_distributed_checkpoint(tmp_path):
    state_dict_saver.save({"model": VAR}, checkpoint_id=tmp_path / "dcp", no_dist=True)
    refused(tmp_path / "dcp", "a folder of torch.distributed.checkpoint (DCP)", "dcp_to_torch", "OUT.pth")
    refused(tmp_path / "dcp" / "__0_0.distcp", f"dcp_to_torch {tmp_path / 'dcp'} OUT.pth")


def test_other_folders(tmp_path):
    refused(tmp_path, "a folder; give the .pth or .safetensors file in it, if there is one")
    (tmp_path / "last.ckpt").touch()
    (tmp_path / "best.pth").touch()
    refused(tmp_path, "a folder; give the .pth or .safetensors file in it: best.pth, last.ckpt")
    (tmp_path / "zero_to_fp32.py").touch()
    refused(tmp_path, "a folder of DeepSpeed", "python zero_to_fp32.py . OUT")


HUB = "https://huggingface.co/FoundationVision/var"


@pytest.mark.parametrize("address, words", [
    (f"{HUB}/resolve/main/var_d16.pth?download=true", "an address of the hub; give hf://FoundationVision/var/var_d16.pth"),
    (f"{HUB}/blob/v2/a/b.pth", "give hf://FoundationVision/var/a/b.pth@v2"),
    (f"{HUB}/tree/main", "give hf://FoundationVision/var/FILE"),
    ("huggingface.co/FoundationVision/var", "give hf://FoundationVision/var/FILE"),
    ("https://hf-mirror.com/a/b/raw/main/c.pth", "give hf://a/b/c.pth"),
    ("https://example.com/var_d16.pth", "an address; download the file and give its path"),
    ("https://huggingface.co/a/b/resolve/main/var%20d16.pth", "give hf://a/b/var d16.pth"),
    ("s3://bucket/var_d16.pth", "an address; download the file and give its path"),
    ("file:///weights/var_d16.pth", "an address; give the path alone: /weights/var_d16.pth"),
    ("FoundationVision/var", "no such file; expected a .pth or .safetensors checkpoint; a file of the hub is hf://"),
    ("FoundationVision/var/var_d16.pth", "no such file; expected a .pth or .safetensors checkpoint; a file of the hub"),
    ("VAE", "no such file; expected a .pth or .safetensors checkpoint; did you mean vae?"),
])  # fmt: skip
def test_pasted_addresses(address, words):
    refused(address, words)
