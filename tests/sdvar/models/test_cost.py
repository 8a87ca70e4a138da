"""The cost of a VAR's passes, against numbers worked out by hand."""

import dataclasses

import pytest
import torch

import sdvar
from sdvar.models.cost import VARCost, pending_bytes, state_bytes, weight_bytes
from sdvar.models.protocol import Cost

PYRAMID = sdvar.ScalePyramid((1, 2, 3, 4, 5, 6, 8, 10, 13, 16))
D16, D30 = (VARCost(PYRAMID, depth, 64 * depth, 256 * depth) for depth in (16, 30))


def test_weights_of_a_block():
    assert (D16.block_weights, D30.block_weights) == (12 * 1024**2, 44_236_800)
    assert (D16.adaln_weights, D30.adaln_weights) == (100_663_296, 663_552_000)
    assert VARCost(PYRAMID, 36, 2304, 9216, shared_adaln=True).adaln_weights == 6 * 2304**2


def test_sizes_are_read_off_a_model():
    with torch.device("meta"):
        model = sdvar.VAR(PYRAMID, depth=2, width=128, heads=2).bfloat16()
        model.head.float()
    assert model.cost() == VARCost(PYRAMID, 2, 128, 512, block_bytes=2, matrix_bytes=2, adaln_bytes=2, head_bytes=4)


@pytest.mark.parametrize(("cost", "expected"), [(D16, 0.805306368e9), (D30, 5.308416e9)])
def test_operations_of_a_token_in_the_blocks(cost, expected):
    """Of both branches, without attention, head and embedding: 24 C² per layer and branch."""
    attention = 2 * cost.depth * 4 * cost.width * 256 * 680
    outside = 2 * 256 * 2 * cost.width * (4096 + 32)
    assert cost.span(2, 9, 10).operations - attention - outside == expected * 256


@pytest.mark.parametrize(("cost", "teraflop"), [(D16, 0.596649), (D30, 3.763270)])
def test_operations_of_an_image_do_not_depend_on_the_spans(cost, teraflop):
    by_scale, at_once = [cost.span(2, k, k + 1) for k in range(10)], cost.span(2, 0, 10)
    assert sum(one.operations for one in by_scale) == at_once.operations == pytest.approx(teraflop * 1e12, rel=1e-6)
    assert sum(one.bytes for one in by_scale) > 8 * at_once.bytes  # the weights are read once per pass


def test_bytes_of_a_pass():
    half = dataclasses.replace(D30, block_bytes=2, matrix_bytes=2)
    cost = half.span(2, 9, 10)
    weights = 30 * 44_236_800 * 2 + (1920 * 4096 + 1920 * 32 + 256 * 1920) * 4
    assert cost.bytes == weights + 2 * 30 * 2 * 680 * 1920 * 2  # 424 tokens read, 256 written
    assert cost.bytes - half.span(2, 9, 10, visible_from=9).bytes == 2 * 30 * 2 * 424 * 1920 * 2
    assert half.span(128, 9, 10).bytes - weights == 64 * (cost.bytes - weights)


def test_logits_that_nobody_asks_for_are_not_counted():
    difference = D16.span(2, 7, 10).operations - D16.span(2, 7, 10, logits_from=9).operations
    assert difference == 2 * (100 + 169) * 2 * 1024 * 4096


def test_a_class_prefix_is_adaln_and_the_pass_over_the_first_scale():
    adaln, first = 100_663_296 + 2 * 1024**2, D16.span(2, 0, 1)
    assert D16.class_prefix(2) == Cost(4 * adaln + first.bytes, 4 * adaln + first.operations)


def test_bytes_of_a_class_prefix():
    """Start, AdaLN, keys and values, logits; a decode copies those of its rows, read and written."""
    half = dataclasses.replace(D30, block_bytes=2, matrix_bytes=2)
    each = 1920 * 4 + (6 * 30 + 2) * 1920 * 4 + 2 * 30 * 1920 * 2 + 4096 * 4
    assert half.class_prefix_bytes() == each
    assert half.begin(8) == Cost(2 * 8 * each, 0)


def test_weights_and_the_copies_of_them():
    model = sdvar.VAR((1, 2), 4, depth=1, width=64, heads=1, codebook_size=8, latent_channels=8).eval().bfloat16()
    before, pending = model.weight_bytes(), model.pending_bytes()
    assert before == state_bytes(model)
    with torch.no_grad():
        model(torch.tensor([0]), torch.zeros(1, 4, 8, dtype=torch.bfloat16))
    assert (weight_bytes(model), pending_bytes(model)) == (before + pending, 0)
