"""The least a pass takes, against numbers worked out by hand."""

import pytest
import torch

import sdvar
from eval.benchmarking.roofline import (
    Ceilings,
    Cost,
    VARSize,
    floor_seconds,
    pass_cost,
    state_bytes,
    tokenizer_cost,
    total,
)
from sdvar.decoding.timing import Pass

PYRAMID = sdvar.ScalePyramid((1, 2, 3, 4, 5, 6, 8, 10, 13, 16))
D16, D30 = (VARSize(depth, 64 * depth, 256 * depth) for depth in (16, 30))


def step(first: int, last: int, rows: int = 2, visible_from: int = 0, logits_from: int | None = None) -> Pass:
    return Pass("target", rows, first, last, visible_from, first if logits_from is None else logits_from)


def test_weights_of_a_block():
    assert (D16.block_weights, D30.block_weights) == (12 * 1024**2, 44_236_800)
    assert (D16.adaln_weights, D30.adaln_weights) == (100_663_296, 663_552_000)
    assert VARSize(36, 2304, 9216, shared_adaln=True).adaln_weights == 6 * 2304**2


def test_sizes_are_read_off_a_model():
    with torch.device("meta"):
        model = sdvar.VAR(PYRAMID, depth=2, width=128, heads=2).bfloat16()
        model.head.float()
    assert VARSize.of(model) == VARSize(2, 128, 512, block_bytes=2, head_bytes=4)


@pytest.mark.parametrize(("size", "expected"), [(D16, 0.805306368e9), (D30, 5.308416e9)])
def test_operations_of_a_token_in_the_blocks(size, expected):
    """Of both branches, without attention, head and embedding: 24 C² a layer and branch."""
    cost = pass_cost(size, PYRAMID, step(9, 10))
    attention = 2 * size.depth * 4 * size.width * 256 * 680
    outside = 2 * 256 * 2 * size.width * (4096 + 32)
    assert cost.operations - attention - outside == expected * 256


@pytest.mark.parametrize(("size", "teraflop"), [(D16, 0.596649), (D30, 3.763270)])
def test_operations_of_an_image_do_not_depend_on_the_spans(size, teraflop):
    by_scale = total(pass_cost(size, PYRAMID, step(k, k + 1)) for k in range(10))
    at_once = pass_cost(size, PYRAMID, step(0, 10))
    assert by_scale.operations == at_once.operations == pytest.approx(teraflop * 1e12, rel=1e-6)
    assert by_scale.bytes > 8 * at_once.bytes  # the weights are read once a pass


def test_bytes_of_a_pass():
    size = VARSize(30, 1920, 7680, block_bytes=2)
    cost = pass_cost(size, PYRAMID, step(9, 10))
    weights = 30 * 44_236_800 * 2 + (1920 * 4096 + 1920 * 32 + 256 * 1920) * 4
    assert cost.bytes == weights + 2 * 30 * 2 * 680 * 1920 * 2  # 424 tokens read, 256 written
    blind = pass_cost(size, PYRAMID, step(9, 10, visible_from=9))
    assert cost.bytes - blind.bytes == 2 * 30 * 2 * 424 * 1920 * 2
    assert pass_cost(size, PYRAMID, step(9, 10, rows=128)).bytes - weights == 64 * (cost.bytes - weights)


def test_logits_that_nobody_asks_for_are_not_counted():
    all_logits, last = pass_cost(D16, PYRAMID, step(7, 10)), pass_cost(D16, PYRAMID, step(7, 10, logits_from=9))
    assert all_logits.operations - last.operations == 2 * (100 + 169) * 2 * 1024 * 4096


def test_the_conditioning_is_the_adaln_matrices():
    assert pass_cost(D16, PYRAMID, step(0, 0)) == Cost(4 * (100_663_296 + 2 * 1024**2), 4 * (100_663_296 + 2 * 1024**2))


def test_the_released_tokenizer_takes_0_394_teraflop_an_image():
    with torch.device("meta"):
        tokenizer = sdvar.VQVAE(PYRAMID)
    one, two = tokenizer_cost(tokenizer, 1), tokenizer_cost(tokenizer, 2)
    assert one.operations == pytest.approx(0.394e12, rel=2e-3)
    assert two.operations == 2 * one.operations
    assert two.bytes - one.bytes == 4 * (3 * 256**2 + 32 * 16**2)
    assert 2 * one.bytes - two.bytes == state_bytes(tokenizer.decoder) + state_bytes(tokenizer.post_quant_conv)


def test_the_floor_is_the_larger_of_both_times():
    ceilings = Ceilings(bytes_per_second=10.0, operations_per_second={"bfloat16": 100.0, "float32": 10.0})
    assert floor_seconds(Cost(20, 100), ceilings, torch.bfloat16) == 2
    assert floor_seconds(Cost(20, 100), ceilings, torch.float32) == 10
