"""Stored tokens: two bytes each, and only those that were recorded come back."""

import os
import zlib

import numpy as np
import pytest

from lightning_modules.run.folder import RunFolder
from lightning_modules.run.formats.packed_tokens import pack, unpack


@pytest.mark.parametrize(("largest", "size"), [(4095, 2), (65_535, 2), (65_536, 4)])
def test_tokens_come_back_as_they_were(largest, size):
    tokens = np.random.default_rng(0).integers(0, largest, (5, 30))
    tokens[-1, -1] = largest
    packed, recorded = pack(tokens)
    assert len(zlib.decompress(packed)) == size * tokens.size
    assert unpack(packed, (5, 30), recorded).tolist() == tokens.tolist()


def test_other_tokens_and_damaged_files_do_not():
    packed, recorded = pack(np.arange(12).reshape(3, 4))
    assert unpack(packed, (3, 4), pack(np.ones((3, 4), int))[1]) is None
    assert unpack(packed, (4, 4), recorded) is None
    for damaged in (b"", b"damaged", packed[:-6], zlib.compress(bytes(10**7))):
        assert unpack(damaged, (3, 4), recorded) is None


def test_a_run_keeps_them_for_each_arm(tmp_path):
    folder, tokens = RunFolder(tmp_path), np.arange(6).reshape(2, 3)
    for arm in ("baseline", "fast"):
        (tmp_path / arm).mkdir()
        recorded = folder.write_tokens(arm, 7, tokens)
        assert folder.read_tokens(arm, 7, (2, 3), recorded).tolist() == tokens.tolist()
        assert folder.read_tokens(arm, 8, (2, 3), recorded) is None
    os.mkfifo(folder.path / "fast/tokens/000009.zlib")
    assert folder.read_tokens("fast", 9, (2, 3), recorded) is None  # nor does it wait
    assert (tmp_path / "fast" / "tokens" / "000007.zlib").is_file()
