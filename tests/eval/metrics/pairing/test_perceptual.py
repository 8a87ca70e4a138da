"""eval.metrics.pairing.perceptual: LPIPS has the weights of the file on each layer, and a wrong file is named."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from eval import measure
from eval.cli.options import parse_metrics
from eval.metrics.images.sets import ImagePairs
from eval.metrics.pairing import perceptual
from eval.metrics.pairing.perceptual import check_weights, compute, load
from lightning_modules.run.folder import RunFolder
from tests.eval.metrics.pairing.test_pixels import write_arm


@pytest.fixture(scope="module")
def network():
    """torchvision's AlexNet, random, without its classifier."""
    from torchvision.models import alexnet

    torch.manual_seed(0)
    return alexnet().features.eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    file = tmp_path_factory.mktemp("lpips") / "alexnet.safetensors"
    save_file({f"features.{key}": value.contiguous() for key, value in network.state_dict().items()}, file)
    return file


def test_it_is_the_weighted_distance_of_normalised_activations(network, weights, tmp_path):
    """As the paper defines it: by layer the squared difference of unit vectors, weighted, averaged over positions."""
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    rng = np.random.default_rng(0)
    sides = rng.integers(0, 256, (2, 6, 64, 64, 3)).astype(np.uint8)
    sides[1, :3] = sides[0, :3]
    for name, side in zip(("lossy", "baseline"), sides):
        write_arm(tmp_path, name, side)
    values, warnings = compute(ImagePairs(RunFolder(tmp_path), "lossy"), weights)
    assert warnings == [] and values["lpips_network"] == "alex"

    top = _NoTrainLpips(net="alex", pnet_rand=True)  # its linear layers are the published ones
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    images = [(torch.from_numpy(side).float() / 127.5 - 1 - shift) / scale for side in sides]
    a, b = (side.permute(0, 3, 1, 2) for side in images)
    expected, lins = torch.zeros(6), iter(top.lins)
    with torch.no_grad():
        for layer in network:
            a, b = layer(a), layer(b)
            if isinstance(layer, torch.nn.ReLU):
                difference = torch.nn.functional.normalize(a, dim=1) - torch.nn.functional.normalize(b, dim=1)
                expected += next(lins)(difference.square()).mean((1, 2, 3))
    assert expected[:3].abs().max() == 0 < expected[3:].min()
    assert values["lpips_mean"] == pytest.approx(float(expected.mean()), rel=1e-4)
    assert values["lpips_mean_interval"][0] < values["lpips_mean"] < values["lpips_mean_interval"][1]


def test_a_finished_run_is_measured_and_remembers_the_file(copied_run, weights):
    """Asked for other metrics alone, it measures those."""
    out = ["--out", str(copied_run)]
    measure.main([*out, "--metrics", "pairs", "--lpips_weights", str(weights)])
    arms = json.loads((copied_run / "metrics.json").read_text())["arms"]
    assert [name for name, arm in arms.items() if "lpips_mean" in arm] == ["speculative", "lossy"]
    assert arms["speculative"]["lpips_mean"] == 0 < arms["lossy"]["lpips_mean"]
    measure.main([*out, "--metrics", "pairs"])
    assert "lpips_mean" not in json.loads((copied_run / "metrics.json").read_text())["arms"]["lossy"]
    measure.main([*out, "--metrics", "lpips"])
    assert "lpips_mean" in json.loads((copied_run / "metrics.json").read_text())["arms"]["lossy"]


def test_small_images_have_none(weights, tmp_path):
    for name in ("lossy", "baseline"):
        write_arm(tmp_path, name, np.zeros((2, 16, 16, 3), np.uint8))
    expected = ["no LPIPS: it needs images of 32 pixels a side, got 16"]
    assert compute(ImagePairs(RunFolder(tmp_path), "lossy"), weights) == ({}, expected)


def test_a_wrong_or_missing_file_is_one_line(network, weights, tmp_path):
    with pytest.raises(ValueError, match=r"lpips_weights: the metric lpips needs a file, https.*alexnet.*got none"):
        check_weights(None)
    with pytest.raises(ValueError, match=r"lpips_weights: expected a file, .*there is no nowhere.pth"):
        check_weights("nowhere.pth")
    file = tmp_path / "other.safetensors"
    save_file({"head.weight": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match=r"expected torchvision's AlexNet or VGG16, .*: it lacks features.0.weight"):
        load(file)
    wrong = {f"features.{key}": value[:1].contiguous() for key, value in network.state_dict().items()}
    save_file(wrong | {perceptual.FIRST: network[0].weight.data.clone()}, file)
    load.cache_clear()
    with pytest.raises(ValueError, match=r"expected torchvision's AlexNet .*size mismatch"):
        load(file)


def test_the_file_asks_for_the_metric(weights):
    assert parse_metrics("is", None) == ["is"] and parse_metrics("none", str(weights)) == []
    assert parse_metrics("is,fid", str(weights)) == ["is", "fid", "lpips"]
    with pytest.raises(ValueError, match="lpips_weights: the metric lpips needs a file"):
        parse_metrics("is,lpips", None)
