"""Networks beyond torch-fidelity's, registered with it: the bundled one, and DINOv2 with its weights in a file."""

from __future__ import annotations

import functools
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from eval.metrics.features.published import INCEPTION, published

if TYPE_CHECKING:
    from torch import Tensor

BUNDLED_EXTRACTOR = "fashion-mnist-128"
BUNDLED_IMAGE_SIZE = 32  # it takes no other
BUNDLED_WEIGHTS = Path(__file__).parents[2] / "bundled" / "feature_net.safetensors"


@functools.cache
def register_extractors() -> None:
    """Registers them, once per process: torch-fidelity refuses a second time."""
    _register_bundled()
    _register_dinov2()


def _register_bundled() -> None:
    from torch_fidelity import FeatureExtractorBase, register_feature_extractor

    from lightning_modules.training.feature_net import FEATURE_WIDTH, FeatureNet
    from sdvar.checkpoints.reading.files import read

    class FashionMNISTExtractor(FeatureExtractorBase):
        """The bundled classifier: 128 features and 10 class scores of a 32 x 32 image."""

        # torch-fidelity passes all of its keywords to every extractor.
        def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path=None, **kwargs) -> None:
            super().__init__(name, features_list)
            self.net = FeatureNet()
            self.net.load_state_dict(read(feature_extractor_weights_path or BUNDLED_WEIGHTS))

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return str(FEATURE_WIDTH), "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else str(FEATURE_WIDTH)

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            if tuple(images.shape[1:]) != (3, BUNDLED_IMAGE_SIZE, BUNDLED_IMAGE_SIZE):
                height, width = images.shape[2:]
                raise ValueError(
                    f"{BUNDLED_EXTRACTOR} measures 32 x 32 images, these are {height} x {width}; use {INCEPTION}, "
                    "or for a reference --resize"
                )
            features, logits = self.net(images.float() / 127.5 - 1)
            by_name = {str(FEATURE_WIDTH): features, "logits": logits}
            # The order of the list varies with the hash seed when torch-fidelity builds it from a set.
            return tuple(by_name[name].float() for name in self.features_list)

    register_feature_extractor(BUNDLED_EXTRACTOR, FashionMNISTExtractor)


def _register_dinov2() -> None:
    import torch
    from torch_fidelity import FeatureExtractorBase
    from torch_fidelity.feature_extractor_dinov2 import MODEL_METADATA, FeatureExtractorDinoV2
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    class DINOv2Extractor(FeatureExtractorDinoV2):
        """torch-fidelity's, whose constructor downloads or raises; this one takes a file too."""

        def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path=None, **kwargs) -> None:
            if feature_extractor_weights_path is None:
                super().__init__(name, features_list, **kwargs)
                return
            FeatureExtractorBase.__init__(self, name, features_list)
            self.feature_extractor_internal_dtype = torch.float32
            code = str(published(name).code)
            os.environ["XFORMERS_DISABLED"] = "1"  # as torch-fidelity has it: the same arithmetic everywhere
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="xFormers")
                self.model = torch.hub.load(code, MODEL_METADATA[name], source="local", pretrained=False)
            self.model.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=True))
            self.requires_grad_(False)
            self.eval()

    for name in MODEL_METADATA:
        FEATURE_EXTRACTORS_REGISTRY[name] = DINOv2Extractor
