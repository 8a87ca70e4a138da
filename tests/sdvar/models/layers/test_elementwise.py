"""SiLU and GELU give a row of numbers the same bits whatever rows are beside it, for any number of threads."""

import pytest
import torch
import torch.nn.functional as F

from sdvar.models.layers import elementwise
from tests.random_pairs import random_pair, random_var

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
TORCHS = {"silu": F.silu, "gelu": lambda x: F.gelu(x, approximate="tanh")}


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 24, 48, 333, 1024])
def test_a_row_alone_has_the_same_bits(name, dtype, width, threads):
    """70 rows of 1,024 are more than torch gives to one thread, and three do not share them evenly."""
    x = (8 * torch.rand(70, width, generator=torch.Generator().manual_seed(0)) - 4).to(dtype)
    function = getattr(elementwise, name)
    assert torch.equal(function(x), torch.cat([function(row) for row in x[:, None]]))


@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_function(name, dtype):
    x = torch.cat((torch.linspace(-200, 200, 4001), torch.tensor([0.0, -0.0, 1e-30, -1e-30]))).to(dtype)
    torch.testing.assert_close(getattr(elementwise, name)(x), TORCHS[name](x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_class_alone_decides_its_conditioning(dtype, threads):
    model = random_var((1, 2, 3), seed=2, width=48).to(dtype)
    labels = torch.arange(5)
    with torch.no_grad():
        together, alone = model.condition(labels), [model.condition(label[None]) for label in labels]
    for name in together._fields:
        assert torch.equal(getattr(together, name), torch.cat([getattr(one, name) for one in alone])), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_of_the_tokenizer_alone_has_the_same_bits(dtype, threads):
    vae = random_pair((1, 2, 3, 5), dtype=dtype).tokenizer
    f_hat = torch.randn(7, 8, 5, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.no_grad():
        together = vae.decode_f_hat(f_hat)
        assert torch.equal(together, torch.cat([vae.decode_f_hat(one[None]) for one in f_hat]))
