"""Weights of torch-fidelity's networks by file, or from the folder of torch's hub, without any download."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from eval.metrics.features import networks
from eval.metrics.features.networks import DOWNLOAD, check_feature_extractor, load_network, weights_digest
from eval.metrics.features.published import published
from sdvar.checkpoints.reading.files import sha256
from tests.eval.metrics.blobs import Images

DINO, CLIP = "dinov2-vit-s-14", "clip-vit-b-32"
HUBCONF = """
import torch

class Means(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))

    def forward(self, images):
        return images.mean((2, 3)) * self.scale

def dinov2_vits14(*, pretrained=True):
    assert not pretrained, "it would download"
    return Means()
"""


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    """An empty folder of torch's hub, and no network."""
    from urllib.error import URLError

    def no_network(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    yield tmp_path / "hub"
    networks._network.cache_clear()


@pytest.fixture
def dino_code(hub):
    code = hub / "facebookresearch_dinov2_main"
    code.mkdir()
    (code / "hubconf.py").write_text(HUBCONF)
    return code


def features(name, *weights):
    return load_network(name, *weights)(Images(2).pixels)[0]


def test_dinov2_takes_a_file_or_the_one_in_the_hub_folder(hub, dino_code, tmp_path):
    file = tmp_path / "dino.safetensors"
    save_file({"scale": torch.tensor([1.0, 2.0, 4.0])}, file)
    means = features(DINO, file)
    assert means.shape == (2, 3) and weights_digest(DINO, file) == sha256(file)
    kept = hub / "checkpoints" / "dinov2_vits14_pretrain.pth"
    torch.save({"scale": torch.tensor([2.0, 4.0, 8.0])}, kept)
    for word in ((), (DOWNLOAD,)):
        assert check_feature_extractor(DINO, *word) == kept and weights_digest(DINO, *word) == sha256(kept)
        assert torch.allclose(features(DINO, *word), 2 * means)
    torch.save({"scale": torch.ones(4)}, kept)
    with pytest.raises(ValueError, match=f"dinov2_vits14_pretrain.pth does not hold the weights of {DINO}: .*size mis"):
        load_network(DINO)


def test_dinov2_without_its_code_says_what_to_get(hub, tmp_path):
    code, url = hub / "facebookresearch_dinov2_main", "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/"
    clone = f"git clone https://github.com/facebookresearch/dinov2 {code}"
    file = tmp_path / "dino.pth"
    torch.save({}, file)
    for weights, expected in (
        (
            None,
            f"{DINO} are not on this machine; give the file {url}dinov2_vits14_pretrain.pth and the code ({clone}), ",
        ),
        (file, f"the code of {DINO} is not on this machine: expected {code}, .* or by hand {clone}"),
    ):
        with pytest.raises(ValueError, match=expected.replace("(", r"\(").replace(")", r"\)")):
            check_feature_extractor(DINO, weights)
    assert check_feature_extractor(DINO, DOWNLOAD) is None
    with pytest.raises(ValueError, match=r"could not be downloaded .*no internet.*without a network .*git clone"):
        load_network(DINO, DOWNLOAD)


class Archive(nn.Module):
    """What CLIP's published archives have, with one layer of 64 channels."""

    def __init__(self):
        from torch_fidelity.feature_extractor_clip import CLIPVisual

        super().__init__()
        self.visual = CLIPVisual(8, 28, 1, 64, 14).visual
        self.text_projection = nn.Parameter(torch.zeros(8, 8))

    def forward(self, images):
        return self.visual(images)


@pytest.mark.filterwarnings("ignore")  # torch announces the end of TorchScript
def test_clip_takes_its_published_archive_and_no_other(monkeypatch, tmp_path):
    from torch_fidelity.feature_extractor_clip import MODEL_METADATA

    torch.manual_seed(0)
    torch.jit.trace(Archive(), torch.zeros(1, 3, 28, 28)).save(tmp_path / "ViT-B-32.pt")
    with pytest.raises(ValueError, match=r"ViT-B-32.pt does not hold .*: it is not https.*ViT-B-32.pt \(its SHA-256"):
        load_network(CLIP, tmp_path / "ViT-B-32.pt")
    monkeypatch.setitem(MODEL_METADATA, CLIP, {"hash": sha256(tmp_path / "ViT-B-32.pt"), "filename": "ViT-B-32"})
    found = features(CLIP, tmp_path / "ViT-B-32.pt")
    assert found.shape == (2, 8) and found.abs().max() > 0


@pytest.mark.proof
@pytest.mark.parametrize("name", ["vgg16", "inception-v3-compat"])
def test_state_dicts_are_read(name, tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchvision.models import vgg16

    torch.manual_seed(0)
    if name == "vgg16":
        model = vgg16()
    else:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
            patched.setattr("torch.load", lambda *_, **__: None)
            model = FeatureExtractorInceptionV3(name, ["2048"], "none")
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    found = features(name, tmp_path / "weights.pth")
    assert found.shape[0] == 2 and found.isfinite().all()
    torch.save(model.state_dict(), published(name).kept)
    assert torch.equal(found, features(name))


def test_every_network_of_torch_fidelity_has_its_address():
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    own = [name for name, network in FEATURE_EXTRACTORS_REGISTRY.items() if "torch_fidelity." in network.__module__]
    assert "vgg16" in own
    for name in [*own, DINO]:
        found = published(name)
        assert found.url.startswith("https://") and found.name.endswith((".pth", ".pt"))
