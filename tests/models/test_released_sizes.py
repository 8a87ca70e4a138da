"""Every released model has exactly the keys, shapes and parameter count of its class here; on the meta device."""

import json

import pytest
import torch

import sdvar
from tests.reference import DATA

TABLES = sorted((DATA / "official_keys").glob("*.json"))


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_keys_shapes_and_parameters(table):
    released = json.loads(table.read_text())
    arguments = released["build_arguments"]
    with torch.device("meta"):
        if table.stem.startswith("vae"):
            model = sdvar.VQVAE(arguments["patch_nums"], arguments["V"], arguments["Cvae"], arguments["ch"])
        else:
            depth = arguments["depth"]
            model = sdvar.VAR(arguments["patch_nums"], arguments["num_classes"], depth, width=64 * depth, heads=depth,
                              codebook_size=arguments["V"], latent_channels=arguments["Cvae"],
                              shared_adaln=arguments["shared_aln"])  # fmt: skip
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == released["shapes"]
    assert sum(parameter.numel() for parameter in model.parameters()) == released["parameters"]
