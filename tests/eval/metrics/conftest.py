"""Fixtures shared by the tests of the metrics: a feature network."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from eval.metrics.features.extractors import BUNDLED_EXTRACTOR
from lightning_modules.training.feature_net import FeatureNet
from tests.eval.metrics.blobs import Images


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """The feature network after a few steps on the blobs: independent of the bundled weights."""
    torch.manual_seed(0)
    net, blobs = FeatureNet(), Images(640, seed=9)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for step in range(30):
        batch = slice(64 * step % 640, 64 * step % 640 + 64)
        logits = net(blobs.pixels[batch].float() / 127.5 - 1)[1]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, blobs.labels[batch]).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("weights") / "feature_net.safetensors"
    save_file(net.state_dict(), path)
    return path


@pytest.fixture
def options(weights):
    return {"feature_extractor": BUNDLED_EXTRACTOR, "feature_extractor_weights": weights}
