"""Two small feature networks without weights, registered with torch-fidelity as a user's own would be."""

from __future__ import annotations

import functools

import torch
from torch_fidelity import FeatureExtractorBase, register_feature_extractor

COLOURS, EDGES = "test-colours", "test-edges"


class Small(FeatureExtractorBase):
    """One layer of features; no classes."""

    layer = "features"

    def __init__(self, name, features_list, **kwargs):
        super().__init__(name, features_list)

    @classmethod
    def get_provided_features_list(cls):
        return (cls.layer,)

    @classmethod
    def get_default_feature_layer_for_metric(cls, metric):
        return cls.layer

    @staticmethod
    def can_be_compiled():
        return False


class Colours(Small):
    """Mean colours of the four quarters: 12 features."""

    def forward(self, images):
        return (torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1),)


class Edges(Small):
    """Mean steps between pixels in each of the four quarters, down and across: 8 features."""

    def forward(self, images):
        grey = images.float().mean(1, keepdim=True)
        steps = [grey.diff(dim=dim).abs() for dim in (2, 3)]
        return (torch.cat([torch.nn.functional.adaptive_avg_pool2d(step, 2).flatten(1) for step in steps], 1),)


@functools.cache
def register() -> None:
    """Once per process: torch-fidelity refuses a second time."""
    register_feature_extractor(COLOURS, Colours)
    register_feature_extractor(EDGES, Edges)
