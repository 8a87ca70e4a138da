"""The reference data of tests/data as models and arrays."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import sdvar

DATA = Path(__file__).parent / "data"
sys.path.insert(0, str(DATA))
import recipe  # noqa: E402

MODELS = ("small", "ten_scales", "shared_aln")


class Reference(NamedTuple):
    config: dict
    weights: dict[str, dict[str, Tensor]]  # "var", "vqvae" -> official key -> tensor
    arrays: dict[str, np.ndarray]
    var: sdvar.VAR
    vae: sdvar.VQVAE

    def assert_close(self, name: str, actual: Tensor) -> None:
        """Compare with the stored array within the tolerance that its config.json gives."""
        expected = torch.from_numpy(self.arrays[name])
        tolerance = self.config["tolerance"][name]["suggested_atol"]
        torch.testing.assert_close(actual.to(expected.dtype), expected, atol=tolerance, rtol=0)

    def thin_image(self, images: Tensor) -> Tensor:
        stride = self.config["stored"]["image_stride"]
        return images[:, :, ::stride, ::stride]


@functools.lru_cache
def load(name: str) -> Reference:
    config = json.loads((DATA / name / "config.json").read_text())
    weights = {}
    for part, rows in config["state_dict"].items():
        shapes = {row["key"]: np.empty(row["shape"], np.bool_) for row in rows}
        filled = recipe.fill(shapes, config["salt"])
        assert recipe.fingerprint(filled) == config["weights_sha256"][part]  # a wrong number stream, not a wrong model
        weights[part] = {key: torch.from_numpy(value) for key, value in filled.items()}
    return Reference(
        config,
        weights,
        dict(np.load(DATA / name / "data.npz")),
        sdvar.load_var(weights["var"], config["model"]["patch_nums"]),
        sdvar.load_tokenizer(weights["vqvae"], config["model"]["patch_nums"]),
    )
