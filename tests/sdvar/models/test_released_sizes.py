"""Every released model loads: configuration, keys, shapes, parameter count; on the meta device, so it costs nothing."""

import json

import pytest
import torch

import sdvar
from tests.reference import DATA

TABLES = sorted((DATA / "official_keys").glob("*.json"))
DTYPES = {"int64": torch.int64, "float32": torch.float32}


def meta_state(released: dict) -> dict[str, torch.Tensor]:
    """A state dict with the shapes of a released file and no values."""
    kinds = released["buffers"]
    return {
        key: torch.empty(shape, dtype=DTYPES[kinds.get(key, "float32")], device="meta")
        for key, shape in released["shapes"].items()
    }


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_loads_with_its_keys_shapes_and_parameters(table):
    released = json.loads(table.read_text())
    arguments, state = released["build_arguments"], meta_state(released)
    if table.stem.startswith("vae"):
        model = sdvar.load_tokenizer(state, arguments["patch_nums"])
        assert (model.codebook_size, model.latent_channels, model.image_size) == (4096, 32, 256)
    else:
        model = sdvar.load_var(state)
        depth = arguments["depth"]
        assert (model.depth, model.width, model.heads) == (depth, 64 * depth, depth)
        assert (model.num_classes, model.codebook_size, model.latent_channels) == (1000, 4096, 32)
        assert list(model.pyramid.patch_nums) == arguments["patch_nums"]
        assert (model.shared_ada_lin is not None) == arguments["shared_aln"]
    loaded = model.state_dict()
    assert {key: list(value.shape) for key, value in loaded.items()} == released["shapes"]
    assert {key: value.dtype for key, value in loaded.items()} == {key: value.dtype for key, value in state.items()}
    assert all(value.is_meta for value in loaded.values())
    assert parameters(model) == released["parameters"]


def test_the_counts_are_the_published_ones():
    counts = {table.stem: json.loads(table.read_text())["parameters"] for table in TABLES}
    assert counts == {
        "vae_ch160v4096z32": 108_948_355,
        "var_d16_256": 310_283_520,
        "var_d20_256": 600_917_136,
        "var_d24_256": 1_033_399_360,
        "var_d30_256": 2_010_020_356,
        "var_d36s_512": 2_353_893_904,
    }


def test_a_512_px_pyramid_is_refused_for_a_256_px_model():
    tables = {table.stem: json.loads(table.read_text()) for table in TABLES}
    given = tables["var_d36s_512"]["build_arguments"]["patch_nums"]
    with pytest.raises(
        sdvar.CheckpointError, match=r"\(1, 2, 3, 4, 5, 6, 8, 10, 13, 16\) in the file, but \(1, 2, 3, 4, 6"
    ):
        sdvar.load_var(meta_state(tables["var_d16_256"]), given)


def test_released_pairs_belong_together():
    states = {table.stem: meta_state(json.loads(table.read_text())) for table in TABLES}
    tokenizer = states["vae_ch160v4096z32"]
    pair = sdvar.load_pair(draft=states["var_d16_256"], target=states["var_d30_256"], tokenizer=tokenizer)
    assert (pair.draft.depth, pair.target.depth) == (16, 30)
    with pytest.raises(sdvar.CheckpointError, match="pyramid must be the same"):
        sdvar.load_pair(draft=states["var_d16_256"], target=states["var_d36s_512"], tokenizer=tokenizer)


def test_low_precision_is_of_the_blocks_alone():
    state = meta_state(json.loads((DATA / "official_keys" / "var_d30_256.json").read_text()))
    model = sdvar.load_var(state, dtype=torch.bfloat16)
    low = {key for key, value in model.state_dict().items() if value.dtype == torch.bfloat16}
    assert low == {key for key in state if key.startswith("blocks.") and not key.endswith("scale_mul_1H11")}
