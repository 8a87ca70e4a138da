import pytest
import torch

from sdvar import ScalePyramid


def test_counts_and_offsets():
    pyramid = ScalePyramid((1, 2, 3, 4, 5, 6, 8, 10, 13, 16))
    assert pyramid.length == 680
    assert pyramid.offsets[:4] == (0, 1, 5, 14)
    assert pyramid.span_tokens(0, 2) == 5  # scale 0 is the start position: 1 + 4, not 6
    assert [part.shape[1] for part in pyramid.split(torch.zeros(1, 680))] == list(pyramid.tokens)
    assert [part.shape[1] for part in pyramid.split(torch.zeros(1, 13), 1, 3)] == [4, 9]


def test_block_causal_mask():
    mask = ScalePyramid((1, 2, 2)).block_causal_mask(1, 3)
    assert mask.shape == (8, 9)
    assert mask[:4, :5].all() and not mask[:4, 5:].any()
    assert mask[4:].all()


@pytest.mark.parametrize("sides, error", [((), ValueError), ((0, 1), ValueError), ((2, 1), ValueError),
                                          ((1.0, 2), TypeError), (3, TypeError), ("12", TypeError)])  # fmt: skip
def test_bad_sides(sides, error):
    with pytest.raises(error, match="patch_nums"):
        ScalePyramid(sides)


def test_repeated_sides_are_allowed():
    assert ScalePyramid((1, 1, 2)).offsets == (0, 1, 2, 6)
