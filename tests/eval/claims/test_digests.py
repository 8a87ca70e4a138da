"""Digests of images: which scale differs is found, and nothing depends on the machine."""

import numpy as np

from eval.claims.decoding import sample
from eval.claims.digests import MISSING, ImageRecord, first_scale, images_digest, manifest_digest, short_tokens

PATCH_NUMS = [1, 2, 3]
TOKENS = np.arange(14)


def test_the_first_scale_that_differs_is_found():
    whole = short_tokens(TOKENS, PATCH_NUMS)
    assert len(whole) == 12 and first_scale(whole, whole) is None
    for place, scale in ((0, 0), (1, 1), (4, 1), (5, 2), (13, 2)):
        assert first_scale(whole, short_tokens(np.where(np.arange(14) == place, 99, TOKENS), PATCH_NUMS)) == scale
    assert short_tokens(None, PATCH_NUMS) == MISSING


def test_digests_stay_as_they_are():
    """A claim of today is read tomorrow."""
    assert short_tokens(TOKENS, PATCH_NUMS).startswith("df3f")  # the SHA-256 of four zero bytes
    record = ImageRecord(3, 1, 7, "ab" * 32, TOKENS, (1, 2, 3, 4))
    assert record.row.startswith(f"3,1,7,{'ab' * 32},") and record.row.endswith("\n") and len(record.row) == 136
    assert ImageRecord(3, 1, 7, "ab" * 32, None, ()).row == f"3,1,7,{'ab' * 32},\n"
    assert images_digest([0, 1], [5, 6], [7, 8]) == manifest_digest(["0,5,7\n", "1,6,8\n"])


def test_a_sample_is_the_same_everywhere():
    assert sample(10, 64, 0) == list(range(10))
    assert sample(50_000, 4, 0) == sample(50_000, 4, 0) != sample(50_000, 4, 1)
    assert len(set(sample(1000, 64, 3))) == 64
