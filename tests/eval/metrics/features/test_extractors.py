"""Feature networks by name: the bundled one, the downloaded ones, and any that torch-fidelity knows."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import Subset

from eval.metrics.feature_metrics import measure_images as measure
from eval.metrics.features.extraction import extract
from eval.metrics.features.extractors import BUNDLED_EXTRACTOR, register_extractors
from eval.metrics.features.networks import DOWNLOAD, check_feature_extractor, load_network
from eval.metrics.features.published import INCEPTION
from eval.metrics.images.formats import open_images
from lightning_modules.training.feature_net import FeatureNet
from tests.eval.metrics.blobs import Images


def test_features_of_another_network_are_refused(options, weights, tmp_path):
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    save_file(FeatureNet().state_dict(), other)
    reference = extract(Images(20), feature_extractor=BUNDLED_EXTRACTOR, feature_extractor_weights=other)
    with pytest.raises(ValueError, match=r"reference: expected features by .*, got features by .* do not compare"):
        measure(Images(20), reference=reference, **options)


def test_unfit_extractors_are_named_before_any_image_is_read(tmp_path):
    images = Images(4)
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    for name, path, message in (
        ("inception", None, "got 'inception'; allowed: fashion-mnist-128, inception-v3-compat, vgg16, "),
        ("inception-v3-compat", tmp_path / "missing.pth", "there is no file"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(images, feature_extractor=name, feature_extractor_weights=path)
    assert images.reads == 0
    for name in (BUNDLED_EXTRACTOR, INCEPTION):
        with pytest.raises(ValueError, match=f"broken.pth does not hold the weights of {name}"):
            measure(images, feature_extractor=name, feature_extractor_weights=tmp_path / "broken.pth")


def test_without_a_network_the_error_says_how_to_get_the_weights(monkeypatch, tmp_path):
    from urllib.error import URLError

    def no_network(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", no_network)
    expected = r"could not be downloaded .*--feature_extractor_weights FILE: the file https:.*/weights-inception"
    with pytest.raises(ValueError, match=expected):
        load_network(INCEPTION, DOWNLOAD)


def test_nothing_is_downloaded_unasked(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    for name in (INCEPTION, "vgg16"):
        with pytest.raises(ValueError, match=f"the weights of {name} are not on this machine; give .*, or the word"):
            check_feature_extractor(name)
        assert check_feature_extractor(name, DOWNLOAD) is None
    (tmp_path / "checkpoints").mkdir()
    kept = tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    kept.touch()
    assert check_feature_extractor(INCEPTION) == check_feature_extractor(INCEPTION, DOWNLOAD) == kept
    assert check_feature_extractor(BUNDLED_EXTRACTOR, DOWNLOAD) == check_feature_extractor(BUNDLED_EXTRACTOR)


def test_any_registered_extractor_works_by_name(tmp_path):
    """Its weights are digested by content where there is no file."""
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    class Means(FeatureExtractorBase):
        def __init__(self, name, features_list, **kwargs):
            super().__init__(name, features_list)
            self.register_buffer("scale", torch.tensor(2.0))

        get_provided_features_list = staticmethod(lambda: ("means",))
        get_default_feature_layer_for_metric = staticmethod(lambda metric: "means")

        def forward(self, images):
            return (images.float().mean((2, 3)) * self.scale,)

    register_feature_extractor("channel-means", Means)
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(3), sigma=np.eye(3))
    result = measure(
        Images(30), baseline=Images(30), reference=tmp_path / "statistics.npz", feature_extractor="channel-means"
    )
    assert result["frechet_distance_to_baseline"] == pytest.approx(0, abs=1e-2)
    assert len(result["feature_extractor_sha256"]) == 64 and result["frechet_distance_to_reference"] > 1


@pytest.mark.parametrize("order", [["128", "logits"], ["logits", "128"]])
def test_layers_keep_their_names_in_either_order(weights, order):
    """calculate_metrics asks for the layers in the order of a set, which changes with the hash seed."""
    from torch_fidelity.utils import create_feature_extractor

    register_extractors()
    network = create_feature_extractor(
        BUNDLED_EXTRACTOR, order, cuda=False, verbose=False, feature_extractor_weights_path=str(weights)
    )
    named = network.convert_features_tuple_to_dict(network(Images(2).pixels))
    assert {name: tensor.shape[1] for name, tensor in named.items()} == {"128": 128, "logits": 10}


def test_bundled_network_knows_the_bundled_images():
    """The real test images: nearly all of ten classes distinguished, and two halves of them nearly equal."""
    images = open_images("bundled")
    assert len(images) == 10_000 and images.shape == (3, 32, 32)
    halves = (Subset(images, range(start, 2000, 2)) for start in (0, 1))
    first, second = (extract(half, feature_extractor=BUNDLED_EXTRACTOR) for half in halves)
    result = measure(first, reference=second, feature_extractor=BUNDLED_EXTRACTOR)
    assert result["warnings"] == []
    assert 7 < result["inception_score_mean"] < 10
    assert 0 < result["frechet_distance_to_reference"] < 1
