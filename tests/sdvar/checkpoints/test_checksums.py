"""Known SHA-256 sums are compared; without one, flipped bits load silently."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

import sdvar
from sdvar.checkpoints import loading
from sdvar.checkpoints.reading import files
from tests.sdvar.checkpoints.bad_files import SMALL, VAR, VAR_PTH, VAR_SAFE, one_error, written


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x40]) + content[position + 1 :]


def sums_beside(file: Path, content: bytes, style: str = "{sum}  {name}\n") -> None:
    line = style.format(sum=hashlib.sha256(content).hexdigest(), name=file.name)
    (file.parent / "SHA256SUMS").write_text("0" * 64 + "  another.pth\n" + line)


@pytest.mark.parametrize("style", ["{sum}  {name}\n", "{sum} *{name}\n", "{sum}  ./{name}"])
@pytest.mark.parametrize("content, suffix", [(VAR_PTH, "pth"), (VAR_SAFE, "safetensors")])
def test_a_listed_sha256(tmp_path, content, suffix, style):
    """A flipped bit of a weight loads silently, but for a listed sum."""
    file = written(tmp_path / f"var.{suffix}", content)
    sums_beside(file, content, style)
    sdvar.load_var(file)
    # in the middle of a tensor's bytes, where nothing but a number changes
    position = content.find(VAR["head.weight"].numpy().tobytes()) + 4 * 11
    written(file, flipped(content, position))
    message = one_error(lambda: sdvar.load_var(file), str(file), "SHA256SUMS")
    assert f"the SHA-256 is {hashlib.sha256(flipped(content, position)).hexdigest()}" in message
    (tmp_path / "SHA256SUMS").unlink()
    changed = sdvar.load_var(file).head.weight != SMALL.var.head.weight
    assert changed.sum() == 1


def test_the_bundled_files_are_compared_with_their_list(tmp_path, monkeypatch):
    shutil.copytree(sdvar.checkpoints.BUNDLED, tmp_path / "bundled")
    monkeypatch.setattr(loading, "BUNDLED", tmp_path / "bundled")
    sdvar.load_pair("tiny")
    file = tmp_path / "bundled" / "tiny" / "target.safetensors"
    written(file, flipped(file.read_bytes(), -9))
    assert "SHA-256" in one_error(lambda: sdvar.load_pair("tiny"), str(file))


def test_a_sum_is_computed_once_for_an_unchanged_file(tmp_path):
    file = written(tmp_path / "a.bin", b"abc" * 9_000_000)  # several reads
    assert sdvar.checkpoints.sha256(file) == hashlib.sha256(b"abc" * 9_000_000).hexdigest()
    calls = files._sha256.cache_info().misses
    sdvar.checkpoints.sha256(file)
    assert files._sha256.cache_info().misses == calls
    written(file, b"other")
    assert sdvar.checkpoints.sha256(file) == hashlib.sha256(b"other").hexdigest()
