"""What the engine and the tokenizer do on simulated CUDA devices."""

import pytest
import torch
from torch.nn.functional import conv2d, unfold

import sdvar
from sdvar.models.encoder_decoder import group_norm
from sdvar.models.quantizer import _patches
from tests.random_pairs import close_pair
from tests.simulated_cuda import CudaTensor, moved

PYRAMID = (1, 2, 3)


def test_the_kernel_that_launches_for_each_head_is_refused(cuda):
    pair = moved(close_pair(PYRAMID), "cuda:1")
    with pytest.raises(ValueError, match=r"products does not run on cuda .*expected one of auto, math"):
        sdvar.Engine(attention="products").apply(pair)


def test_kernels_are_checked_on_the_device_that_will_run_them(cuda):
    sdvar.Engine(attention="math").check(close_pair(PYRAMID), torch.device("cuda:1"))
    assert cuda.contexts == {1}


def test_16_bit_products_are_not_summed_in_16_bits(cuda, monkeypatch):
    """What was allowed before is put back."""
    matmul, seen = torch.backends.cuda.matmul, []
    condition = sdvar.VAR.condition

    def noted(model, labels):
        seen.append((matmul.allow_bf16_reduced_precision_reduction, matmul.allow_fp16_reduced_precision_reduction))
        return condition(model, labels)

    monkeypatch.setattr(sdvar.VAR, "condition", noted)
    sdvar.decode(moved(close_pair(PYRAMID), "cuda:0"), [1], [2], sdvar.Baseline(), images=False)
    assert set(seen) == {(False, False)}
    assert matmul.allow_bf16_reduced_precision_reduction and matmul.allow_fp16_reduced_precision_reduction


def test_the_decoder_keeps_its_channels_last(cuda, monkeypatch):
    """A convolution would otherwise convert what torch's group norm on a GPU returns."""
    formats = []

    def noted(x, *arguments):
        formats.append(x.is_contiguous(memory_format=torch.channels_last))
        return conv2d(x, *arguments)

    monkeypatch.setattr(torch.nn.functional, "conv2d", noted)
    vae = moved(close_pair(PYRAMID), "cuda:0").tokenizer
    with torch.no_grad():
        vae.decode_f_hat(torch.randn(2, 8, 3, 3, dtype=torch.float64).to("cuda:0"))
    assert len(formats) > 10 and all(formats)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_group_norm_with_channels_last_is_that_of_torch(cuda, dtype):
    x = torch.randn(3, 64, 5, 7, dtype=dtype).mul(3).add(1).to(memory_format=torch.channels_last)
    norm = group_norm(64).to(dtype)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    with torch.no_grad():
        expected, got = norm(x), norm.to("cuda:0")(x.to("cuda:0"))
    assert isinstance(got, CudaTensor) and got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got.held, expected)


def test_checking_token_maps_waits_once(cuda):
    vae = moved(close_pair(PYRAMID), "cuda:0").tokenizer
    tokens = [torch.full((2, n), 5, device="cuda:0") for n in vae.pyramid.tokens]
    cuda.events.clear()
    with torch.no_grad():
        vae.var_inputs(tokens)
    assert sum(place.startswith("models/checks") for place, _ in cuda.places("wait").elements()) == 1
    tokens[1][1, 2] = 32
    with pytest.raises(ValueError, match=r"tokens\[1\]: expected values from 0 to 31, got 32"):
        vae.var_inputs(tokens)


@pytest.mark.parametrize("on_device", [False, True])
def test_a_label_out_of_range_is_found_before_anything_runs(cuda, on_device):
    pair = moved(close_pair(PYRAMID), "cuda:0")
    labels = torch.tensor([1, 11, 2])
    cuda.events.clear()
    with pytest.raises(ValueError, match="labels: expected 0 to 9, or 10 for the null class, got 11"):
        sdvar.decode(pair, labels.to("cuda:0") if on_device else labels, [4, 5, 6], sdvar.Baseline())
    assert cuda.count("launch") == int(on_device)  # the test's own copy


@pytest.mark.parametrize(("images", "launches"), [(1, 1), (2, 2), (5, 3)])
def test_patches_of_many_images_take_few_launches(cuda, images, launches):
    h = torch.randn(images, 3, 4, 4)
    patches = _patches(h.to("cuda:0"))
    assert torch.equal(patches.held, unfold(h, kernel_size=3, padding=1).transpose(1, 2))
    assert cuda.count("launch") - 1 == launches  # the first one copied the images
