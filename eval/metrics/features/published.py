"""Where the weights of torch-fidelity's own networks come from, and where torch keeps them once they are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

INCEPTION = "inception-v3-compat"  # the network whose Fréchet distance is called FID
DINOV2_CODE = "https://github.com/facebookresearch/dinov2"  # torch-fidelity has none of its own
DINOV2_WEIGHTS = "https://dl.fbaipublicfiles.com/dinov2"


@dataclass(frozen=True)
class Published:
    """The published weights of a network.

    Attributes:
        url: of the file.
        name: of the file in the folder of torch's hub.
        sha256: of the file, where it is a program (TorchScript) and no other may take its place.
        code: the folder with the network's code, where torch-fidelity has none.
    """

    url: str
    name: str
    sha256: str | None = None
    code: Path | None = None

    @property
    def kept(self) -> Path:
        """Where torch puts the file after a download, and where it can be put by hand."""
        return hub_folder() / "checkpoints" / self.name

    @property
    def code_is_there(self) -> bool:
        return self.code is None or (self.code / "hubconf.py").is_file()

    @property
    def code_to_get(self) -> str:
        """What brings the code to this machine, as a command."""
        return f"git clone {DINOV2_CODE} {self.code}"


def hub_folder() -> Path:
    """Of torch's hub: ``$TORCH_HOME/hub``, by default ~/.cache/torch/hub."""
    import torch

    return Path(torch.hub.get_dir())


def published(feature_extractor: str) -> Published | None:
    """The weights of one of torch-fidelity's own networks; None for any other."""
    from torch_fidelity import feature_extractor_clip as clip
    from torch_fidelity import feature_extractor_dinov2 as dinov2
    from torch_fidelity import feature_extractor_inceptionv3 as inception
    from torchvision.models import VGG16_Weights

    if feature_extractor in dinov2.MODEL_METADATA:
        model = dinov2.MODEL_METADATA[feature_extractor]
        file = f"{model}_pretrain.pth"
        return Published(f"{DINOV2_WEIGHTS}/{model}/{file}", file, code=hub_folder() / "facebookresearch_dinov2_main")
    if feature_extractor in clip.MODEL_METADATA:
        sha256 = clip.MODEL_METADATA[feature_extractor]["hash"]
        return Published(clip.MODEL_URLS[feature_extractor], f"{feature_extractor}-{sha256}.pt", sha256)
    urls = {INCEPTION: inception.URL_INCEPTION_V3, "vgg16": VGG16_Weights.IMAGENET1K_V1.url}
    url = urls.get(feature_extractor)
    return Published(url, url.rpartition("/")[2]) if url else None
