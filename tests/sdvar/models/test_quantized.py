"""Layers with rounded weights, and what a device can run of them."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F

from sdvar.models import quantized
from sdvar.models.cost import bytes_per_weight, state_bytes
from sdvar.models.quantized import KINDS, QuantizedLinear, check_kind

CPU = torch.device("cpu")
ON_CPU = [kind for kind in KINDS if kind != "fp8-dynamic"]
ERROR = {"int8": 0.01, "int8-dynamic": 0.015, "int4": 0.12, "fp8": 0.04}  # of a product, relative


def layer(kind, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(96, 64, generator=generator).to(dtype), torch.randn(96, generator=generator).to(dtype)
    return QuantizedLinear(weight, bias, kind), weight, bias


def rows(count, dtype=torch.float32):
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ON_CPU)
def test_products_are_near_those_of_the_weights_themselves(kind, dtype):
    rounded, weight, bias = layer(kind, dtype)
    x, other = rows(40, dtype).view(2, 20, 64), torch.ones(96, dtype=dtype)
    for given in (None, other):
        expected = F.linear(x.float(), weight.float(), (bias if given is None else given).float())
        y = rounded(x, given)
        assert y.dtype == dtype and y.shape == (2, 20, 96)
        assert (y - expected).norm() < (ERROR[kind] + 0.01) * expected.norm()
    assert torch.allclose(rounded(x, gelu=True), F.gelu(rounded(x), approximate="tanh"), atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ON_CPU)
def test_a_row_does_not_depend_on_the_rows_beside_it(kind, dtype):
    rounded, x = layer(kind, dtype)[0], rows(150, dtype)
    with torch.inference_mode():
        y = rounded(x)
        for first, last in ((0, 1), (3, 20), (1, 65), (17, 150)):
            assert torch.equal(rounded(x[first:last]), y[first:last])


def test_rows_of_zeros_give_the_bias():
    rounded, _, bias = layer("int8-dynamic")
    assert torch.equal(rounded(torch.zeros(3, 64)), bias.expand(3, -1))


@pytest.mark.parametrize("kind", ON_CPU)
def test_copies_and_conversions_multiply_as_before(kind):
    rounded, x = layer(kind)[0], rows(5)
    file = io.BytesIO()
    torch.save(rounded, file)
    file.seek(0)
    for again in (copy.deepcopy(rounded), torch.load(file, weights_only=False)):
        assert torch.equal(again(x), rounded(x))
    half = copy.deepcopy(rounded).to(torch.bfloat16)
    assert half.weight.dtype == torch.bfloat16 and half.weight_width == 1
    assert torch.allclose(half(x.bfloat16()).float(), rounded(x), atol=0.5)


def test_memory_is_that_of_the_rounded_numbers_and_their_scales():
    rounded, *_ = layer("int8")
    assert bytes_per_weight(rounded) == 1
    assert (
        96 * 64 + 2 * 96 * 4 <= state_bytes(rounded) <= 96 * 64 + 2 * 96 * 4 + 96
    )  # weights, scales, bias, zero points


def test_what_a_device_cannot_run_is_one_line_with_what_it_can():
    with pytest.raises(ValueError) as caught:
        check_kind("fp8-dynamic", CPU, torch.float32, ("target:bf16",))
    assert str(caught.value) == (
        "draft: target:fp8-dynamic does not run on cpu with a target in torch.float32; expected one of target:int8, "
        "target:int8-dynamic, target:int4, target:fp8, target:bf16"
    )
    with pytest.raises(ValueError, match=r"expected one of target:fp8$"):
        check_kind("int8", CPU, torch.float64)


def test_a_model_without_such_layers_passes():
    quantized.check_layers(torch.nn.Linear(2, 2), CPU)
    quantized.check_layers(object(), CPU)
