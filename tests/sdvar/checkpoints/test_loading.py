"""Files, state dicts and training checkpoints -> models, in any precision."""

import collections
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

import sdvar
from tests import reference
from tests.random_pairs import random_pair, random_var

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def small():
    return reference.load("small")


def same(model, state):
    return all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())


@pytest.mark.parametrize("form", ["pth", "legacy pth", "safetensors"])
def test_files_round_trip(small, tmp_path, form):
    file = tmp_path / f"var.{form.split()[-1]}"
    state = small.var.state_dict()
    if form == "safetensors":
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form == "pth")
    loaded = sdvar.load_var(str(file))  # the pyramid comes off lvl_1L
    assert loaded.pyramid == small.var.pyramid
    assert same(loaded, state)
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_of_torch_save_named_safetensors(small, tmp_path, legacy):
    state, file = small.var.state_dict(), tmp_path / "var.safetensors"
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    assert same(sdvar.load_var(file), state)


def test_shared_adaln_heads_and_classes_come_off_the_tensors():
    ref = reference.load("shared_aln")
    model = ref.config["model"]
    assert (ref.var.depth, ref.var.width, ref.var.heads) == (model["depth"], model["width"], model["heads"])
    assert ref.var.num_classes == model["num_classes"]
    assert ref.var.shared_ada_lin is not None


def test_without_qk_norm_heads_follow_from_the_width():
    model = sdvar.VAR((1, 2), 3, depth=1, width=128, heads=2, codebook_size=8, latent_channels=4, qk_norm=False)
    loaded = sdvar.load_var(model.state_dict())
    assert loaded.heads == 2
    assert loaded.blocks[0].attn.scale == 0.25 / 8


@torch.no_grad()
@pytest.mark.parametrize("phi_sharing", [0, 1, 2, 4])
def test_phis_of_a_tokenizer_come_off_the_tensors(phi_sharing):
    torch.manual_seed(0)
    model = sdvar.VQVAE((1, 2, 3), 8, 4, 32, (1, 2), res_blocks=1, phi_sharing=phi_sharing).eval()
    loaded = sdvar.load_tokenizer(model.state_dict(), (1, 2, 3))
    tokens = [torch.zeros(1, n, dtype=torch.int64) for n in model.pyramid.tokens]
    assert torch.equal(loaded.decode(tokens), model.decode(tokens))


def test_derived_buffers_may_be_left_out(small):
    state = {k: v for k, v in small.var.state_dict().items() if k.rsplit(".", 1)[-1] not in sdvar.checkpoints.DERIVED}
    loaded = sdvar.load_var(state, small.config["model"]["patch_nums"])
    assert same(loaded, small.var.state_dict())


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


WRAPPINGS = {
    "as it is": lambda state: state,
    "trained with data parallelism": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "both": lambda state: prefixed(state, "module._orig_mod."),
    "the other way round": lambda state: prefixed(state, "_orig_mod.module."),
    "blocks compiled": lambda state: {k.replace("blocks.0.", "blocks.0._orig_mod."): v for k, v in state.items()},
    "model": lambda state: {"model": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}, "epoch": 3},
    "state_dict": lambda state: {"state_dict": prefixed(state, "module."), "best": 0.5, "names": ["a", "b"]},
    "ordered": lambda state: {"model": collections.OrderedDict(state)},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.one_in(4)
def test_training_checkpoints(small, tmp_path, wrapping):
    for state, load in ((small.var.state_dict(), sdvar.load_var), (small.vae.state_dict(), sdvar.load_tokenizer)):
        wrapped = WRAPPINGS[wrapping](state)
        torch.save(wrapped, tmp_path / "run.pth")
        for source in (wrapped, tmp_path / "run.pth"):
            assert same(load(source, small.config["model"]["patch_nums"]), state)


def test_a_trainer_holds_both_models(small, tmp_path):
    trainer = {
        "config": {"lr": 1e-4},
        "var_wo_ddp": prefixed(small.var.state_dict(), "_orig_mod."),
        "vae_local": small.vae.state_dict(),
        "var_opt": {"optimizer": {"state": {}, "param_groups": []}},
    }
    torch.save({"args": {"depth": 2}, "epoch": 1, "iter": 7, "trainer": trainer}, tmp_path / "last.pth")
    assert same(sdvar.load_var(tmp_path / "last.pth"), small.var.state_dict())
    patch_nums = small.config["model"]["patch_nums"]
    assert same(sdvar.load_tokenizer(tmp_path / "last.pth", patch_nums), small.vae.state_dict())


@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_precision(small, stored, dtype):
    """Weights stored in any precision load in any; head, embeddings and attention scales stay in float32."""
    state = {k: v.to(stored) if v.is_floating_point() else v for k, v in small.var.state_dict().items()}
    loaded = sdvar.load_var(state, dtype=dtype)
    full = dtype if dtype == torch.float64 else torch.float32
    assert loaded.blocks[0].attn.mat_qkv.weight.dtype == dtype
    assert {loaded.head.weight.dtype, loaded.pos_1LC.dtype, loaded.blocks[0].attn.scale_mul_1H11.dtype} == {full}
    assert torch.equal(loaded.head.weight, state["head.weight"].to(full))
    assert torch.equal(loaded.blocks[0].ffn.fc1.weight, state["blocks.0.ffn.fc1.weight"].to(dtype))
    logits = loaded(torch.tensor([0]), torch.zeros(1, 29, 8))
    assert logits.dtype == full
    reference_logits = small.var(torch.tensor([0]), torch.zeros(1, 29, 8))
    atol = max({torch.bfloat16: 0.2, torch.float16: 0.05}.get(kind, 1e-4) for kind in (stored, dtype))
    torch.testing.assert_close(logits.float(), reference_logits, atol=atol, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tokenizer_is_never_in_low_precision(small, dtype):
    state = {key: value.half() for key, value in small.vae.state_dict().items()}
    loaded = sdvar.load_tokenizer(state, small.config["model"]["patch_nums"], dtype=dtype)
    kinds = {value.dtype for value in loaded.state_dict().values()}
    assert kinds == {torch.float64 if dtype == torch.float64 else torch.float32}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_does_not_change_with_its_file(small, tmp_path, suffix, dtype):
    file = tmp_path / f"var.{suffix}"
    state = {key: value.contiguous() for key, value in small.var.state_dict().items()}
    torch.save(state, file) if suffix == "pth" else save_file(state, file)
    loaded = sdvar.load_var(file, dtype=dtype)
    before = {key: value.clone() for key, value in loaded.state_dict().items()}
    with file.open("r+b") as stream:  # in place: the pages that a mapping shows change
        stream.write(bytes(file.stat().st_size))
    assert same(loaded, before)


def test_a_model_does_not_share_memory_with_a_state_dict(small):
    state = {key: value.clone() for key, value in small.var.state_dict().items()}
    loaded = sdvar.load_var(state)
    for value in state.values():
        value.zero_()
    assert same(loaded, small.var.state_dict())


def test_strided_tensors_come_out_contiguous(small):
    state = dict(small.var.state_dict())
    state["head.weight"] = state["head.weight"].T.contiguous().T
    loaded = sdvar.load_var(state)
    assert loaded.head.weight.is_contiguous() and same(loaded, small.var.state_dict())


def test_arguments_are_checked_before_the_file_is_looked_at(small):
    with pytest.raises(ValueError, match=r"dtype: expected one of torch.float64.*got torch.int8"):
        sdvar.load_var("none.pth", dtype=torch.int8)
    with pytest.raises(ValueError, match="patch_nums"):
        sdvar.load_var("none.pth", (3, 2, 1))
    with pytest.raises(TypeError, match=r"got VAR.*state_dict\(\)"):
        sdvar.load_var(small.var)


def test_load_pair_from_files(tmp_path):
    pair = random_pair(dtype=torch.float32)
    files = {name: tmp_path / f"{name}.safetensors" for name in ("draft", "target", "tokenizer")}
    for name, file in files.items():
        save_file(getattr(pair, name).state_dict(), file)
    loaded = sdvar.load_pair(**files)
    a, b = (sdvar.decode(p, [1], [2], sdvar.Speculative(2)) for p in (pair, loaded))
    assert torch.equal(a.images, b.images)


@pytest.mark.parametrize("arguments, words", [
    ({"pair": "huge"}, "tiny"), ({"pair": "tiny", "draft": "x.pth"}, "not both"),
    ({"draft": "x.pth"}, "target, tokenizer"),
    ({}, "draft, target, tokenizer"),
    ({"pair": "tiny", "dtype": torch.int8}, "dtype"),
])  # fmt: skip
def test_bad_arguments_of_load_pair(arguments, words):
    with pytest.raises(ValueError, match=words):
        sdvar.load_pair(**arguments)


def test_the_bundled_files_load_quietly():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair = sdvar.load_pair("tiny")
    assert same(
        pair.draft,
        {"head.weight": load_file(sdvar.checkpoints.BUNDLED / "tiny/draft.safetensors")["head.weight"].float()},
    )


def test_random_weights_keep_their_classes(small):
    assert sdvar.load_var(random_var((1, 2), seed=1).state_dict()).num_classes == 10
