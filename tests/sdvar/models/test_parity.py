"""The models compute what the original release computed, for the same weights under the same key names."""

import json

import numpy as np
import pytest
import torch

import sdvar
from sdvar.decoding.stepper import Stepper
from sdvar.sampling import filtered_probabilities
from tests import reference
from tests.reference import MODELS


@pytest.fixture(params=MODELS)
def ref(request):
    return reference.load(request.param)


def stored_tokens(ref, name="ids"):
    return list(ref.vae.pyramid.split(torch.from_numpy(ref.arrays[name]).long()))


@pytest.mark.parametrize("part", ["var", "vqvae"])
def test_keys_and_shapes_are_the_released_ones(ref, part):
    model = ref.var if part == "var" else ref.vae
    expected = {row["key"]: tuple(row["shape"]) for row in ref.config["state_dict"][part]}
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == expected
    assert sum(p.numel() for p in model.parameters()) == ref.config["parameters"][part]


def test_phi_of_each_scale(ref):
    bank, scales = ref.vae.quantize.quant_resi, len(ref.vae.pyramid)
    assert [bank.index(scale, scales) for scale in range(scales)] == ref.config["phi_index"]


def test_teacher_forcing(ref):
    inputs = ref.vae.var_inputs(stored_tokens(ref))
    ref.assert_close("tf_input", inputs)
    labels = torch.from_numpy(ref.arrays["labels"]).long()
    positions = torch.from_numpy(ref.arrays["positions"]).long()
    ref.assert_close("tf_logits_cond", ref.var(labels, inputs)[:, positions])
    null = torch.full_like(labels, ref.var.num_classes)
    ref.assert_close("tf_logits_uncond", ref.var(null, inputs)[:, positions])


def test_tokenizer(ref):
    tokens = stored_tokens(ref)
    ref.assert_close("fhat", torch.stack(ref.vae.quantize.f_hats(tokens), dim=1))
    ref.assert_close("image", ref.thin_image(ref.vae.decode(tokens)))
    images = torch.from_numpy(ref.arrays["enc_image_u8"]).float() / 255
    images = images + images - 1
    ref.assert_close("enc_f", ref.vae.features(images))
    assert torch.cat(ref.vae.encode(images), dim=1).tolist() == ref.arrays["enc_ids"].tolist()


def test_greedy_decode(ref, monkeypatch):
    """Tokens, f-hat, image, and in the plain decode the logits after guidance."""
    original, guided = Stepper._guide, []

    def recorded(self, *arguments):
        guided.append(original(self, *arguments))
        return guided[-1]

    monkeypatch.setattr(Stepper, "_guide", recorded)
    pair = sdvar.ModelPair(ref.var, ref.var, ref.vae)
    sampling = sdvar.Sampling(cfg=ref.config["greedy"]["cfg"], top_k=ref.config["greedy"]["top_k"])
    labels = ref.arrays["labels"].tolist()
    for strategy in (sdvar.Baseline(), sdvar.Speculative(3)):
        guided.clear()
        result = sdvar.decode(pair, labels, [0] * len(labels), strategy, sampling)
        if strategy == sdvar.Baseline():
            positions = torch.from_numpy(ref.arrays["positions"]).long()
            ref.assert_close("greedy_logits", torch.cat(guided, dim=1)[:, positions])
        ref.assert_close("greedy_fhat", ref.vae.quantize.f_hats(result.tokens)[-1])
        assert torch.cat(result.tokens, dim=1).tolist() == ref.arrays["greedy_ids"].tolist()
        ref.assert_close("greedy_image", ref.thin_image(result.images))


SAMPLING = json.loads((reference.DATA / "sampling" / "config.json").read_text())["cases"]


@pytest.mark.parametrize("case", SAMPLING, ids=lambda case: case["probs"])
def test_filtered_probabilities(case):
    arrays = np.load(reference.DATA / "sampling" / "data.npz")
    logits = torch.from_numpy(arrays[case["logits"]])
    before = logits.clone()
    actual = filtered_probabilities(logits, case["top_k"], case["top_p"])
    expected = torch.from_numpy(arrays[case["probs"]])
    assert torch.equal(logits, before)
    assert torch.equal(actual == 0, expected == 0)
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)
