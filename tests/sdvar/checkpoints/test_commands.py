"""The command line: what `inspect` prints and what `convert` writes."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import sdvar
from sdvar.checkpoints import converting
from sdvar.checkpoints.__main__ import main
from tests.random_pairs import random_pair

PATCH_NUMS = (1, 2, 3)


@pytest.fixture(scope="module")
def pair():
    return random_pair(PATCH_NUMS, torch.float32)


@pytest.fixture
def run_file(pair, tmp_path):
    """A training checkpoint of a compiled VAR and its tokenizer."""
    var = {f"_orig_mod.{key}": value for key, value in pair.target.state_dict().items()}
    trainer = {"var_wo_ddp": var, "vae_local": pair.tokenizer.state_dict(), "config": {"lr": 1.0}}
    torch.save({"epoch": 1, "trainer": trainer}, tmp_path / "run.pth")
    return tmp_path / "run.pth"


def command(*arguments: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "sdvar.checkpoints", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


@pytest.mark.proof
def test_both_commands_as_a_user_runs_them(run_file, tmp_path):
    out = tmp_path / "var.safetensors"
    result = command("convert", run_file, out, "--kind", "var", "--dtype", "bfloat16")
    assert (result.returncode, result.stderr) == (0, "")
    assert "read back and equal" in result.stdout
    result = command("inspect", out, tmp_path / "none.pth")
    assert result.returncode == 2
    why = f"{tmp_path / 'none.pth'}: no such file; expected a .pth or .safetensors checkpoint; did you mean run.pth?"
    assert result.stderr == f"python -m sdvar.checkpoints: error: {why}\n"
    [row] = [row for row in cells(result.stdout) if row[1]]  # a long name takes several lines
    assert row[1] == "VAR" and row[6:8] == ["1 2 3", "bfloat16 + float32"]


def test_inspect_tells_what_files_are(pair, run_file, tmp_path, capsys):
    parameters = {
        part: f"{sum(p.numel() for p in getattr(pair, part).parameters()):,}" for part in ("target", "tokenizer")
    }
    bare = {
        k: v.half() for k, v in pair.target.state_dict().items() if k.rsplit(".")[-1] not in sdvar.checkpoints.DERIVED
    }
    torch.save({"state_dict": bare}, tmp_path / "bare.pth")
    torch.save({"[bold]a": torch.zeros(3, dtype=torch.int32)}, tmp_path / "strange.pth")
    torch.save({**bare, "pos_1LC": torch.zeros(3)}, tmp_path / "damaged.pth")
    files = [run_file, tmp_path / "bare.pth", tmp_path / "strange.pth", tmp_path / "damaged.pth"]
    assert main(["inspect", *map(str, files)]) == 0
    printed = capsys.readouterr().out
    rows = [row[1:] for row in cells(printed) if row[1]]
    size = f"{run_file.stat().st_size / 1e6:,.1f}"
    assert rows[0] == ["VAR", size, "3", "32", "2", "1 2 3", "float32", parameters["target"]]
    assert rows[1] == ["tokenizer", size, "-", "32", "-", "-", "float32", parameters["tokenizer"]]
    assert rows[2][2:] == ["3", "32", "2", "-", "float16", parameters["target"]]
    assert rows[3][0] == "unknown" and rows[3][6:] == ["int32", "3"]
    assert rows[4][0] == "VAR" and rows[4][2] == "-"
    notes = " ".join(printed.split())
    assert "bare.pth::state_dict: the pyramid of its 14 tokens is not in the file; give patch_nums" in notes
    assert "strange.pth: 1 tensor: [bold]a (3,)" in notes
    assert "damaged.pth: pos_1LC has the shape (3,)" in notes


def test_inspect_goes_on_after_a_file_that_cannot_be_read(run_file, tmp_path, capsys):
    (tmp_path / "text.pth").write_text("weights, honest")
    assert main(["inspect", str(tmp_path / "text.pth"), str(run_file)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "text.pth: cannot be read as a checkpoint" in captured.err
    assert len([row for row in cells(captured.out) if row[1]]) == 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_a_converted_file_loads_as_the_original_does(pair, run_file, tmp_path, dtype):
    wanted = getattr(torch, dtype)
    for kind, load in (("var", sdvar.load_var), ("tokenizer", sdvar.load_tokenizer)):
        out = tmp_path / f"{kind}.safetensors"
        assert main(["convert", str(run_file), str(out), "--kind", kind, "--dtype", dtype]) == 0
        original = load(run_file, PATCH_NUMS, dtype=wanted).state_dict()
        stored = load_file(out)
        assert stored.keys() == original.keys()
        for state in (stored, load(out, PATCH_NUMS, dtype=wanted).state_dict()):
            assert all(torch.equal(value, state[key]) for key, value in original.items())
            assert all(value.dtype == state[key].dtype for key, value in original.items())


def test_the_pyramid_of_a_file_without_one_can_be_given_and_is_kept(pair, tmp_path):
    bare = {k: v for k, v in pair.target.state_dict().items() if k.rsplit(".")[-1] not in sdvar.checkpoints.DERIVED}
    torch.save(bare, tmp_path / "bare.pth")
    line = ["convert", str(tmp_path / "bare.pth"), str(tmp_path / "var.safetensors")]
    assert main(line) == 2
    assert main([*line, "--patch_nums", "1", "2", "3"]) == 0
    assert sdvar.load_var(tmp_path / "var.safetensors").pyramid.patch_nums == PATCH_NUMS


def test_a_tokenizer_of_unknown_scales_keeps_its_scales_open(pair, tmp_path):
    state = {k: v for k, v in pair.tokenizer.state_dict().items() if not k.endswith("ema_vocab_hit_SV")}
    torch.save(state, tmp_path / "vae.pth")
    assert main(["convert", str(tmp_path / "vae.pth"), str(tmp_path / "vae.safetensors")]) == 0
    assert len(sdvar.load_tokenizer(tmp_path / "vae.safetensors", (1, 2, 3, 4)).pyramid) == 4


def test_overwriting(run_file, tmp_path):
    out = tmp_path / "var.safetensors"
    out.write_bytes(b"precious")
    line = ["convert", str(run_file), str(out), "--kind", "var"]
    assert main(line) == 2 and out.read_bytes() == b"precious"
    assert main([*line, "--overwrite"]) == 0
    assert sdvar.load_var(out).depth == 3
    assert main(["convert", str(out), str(out), "--dtype", "float16", "--overwrite"]) == 0  # onto itself
    assert sdvar.load_var(out).depth == 3
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~mask


def refused(capsys, *line: object) -> str:
    assert main(["convert", *map(str, line)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("python -m sdvar.checkpoints: error: ") and message.count("\n") == 1
    return message


def test_what_convert_refuses(pair, run_file, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    assert "choose with --kind var or --kind tokenizer" in refused(capsys, run_file, out)
    assert "must end in .safetensors" in refused(capsys, run_file, tmp_path / "out.pth")
    assert "none does not exist; make it first" in refused(capsys, run_file, tmp_path / "none" / "out.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "strange.pth")
    assert "no VAR and no tokenizer of the released format" in refused(capsys, tmp_path / "strange.pth", out)
    save_file(pair.target.state_dict(), tmp_path / "var.safetensors")
    assert "no tokenizer of the rel" in refused(capsys, tmp_path / "var.safetensors", out, "--kind", "tokenizer")
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'x').hexdigest()}  out.safetensors\n")
    assert "SHA256SUMS lists the SHA-256 of another file" in refused(capsys, run_file, out, "--kind", "var")
    assert not out.exists()


def test_a_file_that_reads_back_differently_is_not_kept(run_file, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"precious")
    save = converting.save

    def bad_disk(tensors, metadata):
        return save({**tensors, "head.bias": tensors["head.bias"] + 1}, metadata)

    monkeypatch.setattr(converting, "save", bad_disk)
    message = refused(capsys, run_file, out, "--kind", "var", "--overwrite")
    assert "differs from what was written (head.bias)" in message
    assert out.read_bytes() == b"precious" and sorted(p.name for p in tmp_path.iterdir()) == [
        "out.safetensors",
        "run.pth",
    ]
