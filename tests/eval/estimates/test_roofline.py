"""The roofline of passes, of the tokenizer and of a decode, against numbers worked out by hand."""

from types import SimpleNamespace

import pytest
import torch

import sdvar
from eval.estimates.roofline import Ceilings, Roofline, tokenizer_cost
from sdvar.decoding.timing import Pass, Stretch
from sdvar.models.cost import state_bytes
from sdvar.models.protocol import Cost

PYRAMID = sdvar.ScalePyramid((1, 2, 3, 4, 5, 6, 8, 10, 13, 16))
CEILINGS = Ceilings(bytes_per_second=10.0, operations_per_second={"bfloat16": 100.0, "float32": 10.0})


def test_the_roofline_is_the_longer_of_both_times():
    assert CEILINGS.seconds(Cost(20, 100), torch.bfloat16) == 2
    assert CEILINGS.seconds(Cost(20, 100), torch.float32) == 10


def test_a_decode_is_the_sum_of_its_passes_by_what_any_model_says_they_cost():
    class Costs:
        def begin(self, rows):
            return Cost(rows, 0)

        def span(self, rows, first, last, visible_from, logits_from):
            return Cost(0, rows * 100 * (last - first) + logits_from + visible_from)

    model = SimpleNamespace(cost=Costs, dtype=torch.bfloat16)
    pair = SimpleNamespace(draft=model, target=model, tokenizer=None)
    works = [Pass("target", 4, 0, 0, 0, 0), Pass("target", 4, 0, 2, 0, 0), Pass("draft", 2, 1, 2, 10, 90)]
    stretches = [Stretch(work.model, work.first, work.last, 1.0, work) for work in works]
    stretches.append(Stretch("sampling", 0, 1, 1.0, None))
    found = Roofline(pair, CEILINGS).of_decode(stretches, 2, images=False)
    assert found == {"seconds": 11.4, "parts_seconds": {"target": 8.4, "draft": 3.0}, "bytes": 4, "operations": 1100}


def test_the_released_tokenizer_takes_0_394_teraflop_per_image():
    with torch.device("meta"):
        tokenizer = sdvar.VQVAE(PYRAMID)
    one, two = tokenizer_cost(tokenizer, 1), tokenizer_cost(tokenizer, 2)
    assert one.operations == pytest.approx(0.394e12, rel=2e-3)
    assert two.operations == 2 * one.operations
    assert two.bytes - one.bytes == 4 * (3 * 256**2 + 32 * 16**2)
    assert 2 * one.bytes - two.bytes == state_bytes(tokenizer.decoder) + state_bytes(tokenizer.post_quant_conv)
