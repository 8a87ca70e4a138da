"""Files and state dicts -> models, and what is refused."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

import sdvar
from tests import reference
from tests.random_pairs import random_pair, random_var


@pytest.fixture
def small():
    return reference.load("small")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_files_round_trip(small, tmp_path, suffix):
    file = tmp_path / f"var.{suffix}"
    state = small.var.state_dict()
    torch.save(state, file) if suffix == "pth" else save_file(state, file)
    loaded = sdvar.load_var(file)  # the pyramid comes off lvl_1L
    assert loaded.pyramid == small.var.pyramid
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in state.items())
    assert not loaded.training


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


def test_derived_buffers_may_be_left_out(small):
    state = {k: v for k, v in small.var.state_dict().items() if k.rsplit(".", 1)[-1] not in sdvar.checkpoints.DERIVED}
    loaded = sdvar.load_var(state, small.config["model"]["patch_nums"])
    assert torch.equal(loaded.attn_bias_for_masking, small.var.attn_bias_for_masking)
    with pytest.raises(sdvar.CheckpointError, match="give patch_nums"):
        sdvar.load_var(state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_precision(small, dtype):
    loaded = sdvar.load_var(small.var.state_dict(), dtype=dtype)
    full = dtype if dtype == torch.float64 else torch.float32
    assert loaded.blocks[0].attn.mat_qkv.weight.dtype == dtype
    assert {loaded.head.weight.dtype, loaded.pos_1LC.dtype, loaded.blocks[0].attn.scale_mul_1H11.dtype} == {full}
    logits = loaded(torch.tensor([0]), torch.zeros(1, 29, 8))
    assert logits.dtype == full
    reference_logits = small.var(torch.tensor([0]), torch.zeros(1, 29, 8))
    atol = {torch.bfloat16: 0.2, torch.float16: 0.05}.get(dtype, 1e-4)
    torch.testing.assert_close(logits.float(), reference_logits, atol=atol, rtol=0)


class Payload:
    """Runs code when unpickled, if anything does."""

    ran = False

    def __reduce__(self):
        return (setattr, (Payload, "ran", True))


def broken_files(folder, small):
    """Every case: what is loaded, and words of the one error."""
    good = folder / "good.pth"
    torch.save(small.var.state_dict(), good)
    whole = good.read_bytes()
    state = small.var.state_dict()

    def write(name, content):
        (folder / name).write_bytes(content)
        return folder / name

    def saved(name, content):
        torch.save(content, folder / name)
        return folder / name

    nan = {**state, "head.weight": torch.full_like(state["head.weight"], float("nan"))}
    short = {**state, "head.bias": state["head.bias"][:-1]}
    lacking = {key: value for key, value in state.items() if key != "blocks.1.ffn.fc2.bias"}
    return [
        (folder / "none.pth", "no such file"),
        (write("cut.pth", whole[: len(whole) // 2]), "cannot be read"),
        (write("empty.pth", b""), "cannot be read"),
        (write("text.pth", b"weights, honest"), "cannot be read"),
        (write("text.safetensors", b"weights, honest"), "cannot be read"),
        (write("code.pth", pickle.dumps({"a": Payload()})), "cannot be read"),
        (saved("list.pth", [1, 2]), "expected names and tensors"),
        (saved("nan.pth", nan), "head.weight holds NaN"),
        (saved("short.pth", short), r"mis-shaped: head.bias \(63,\) instead of \(64,\)"),
        (saved("lacking.pth", lacking), "1 missing: blocks.1.ffn.fc2.bias"),
        (saved("extra.pth", {**state, "more": torch.zeros(1)}), "1 unexpected: more"),
        (saved("vae.pth", small.vae.state_dict()), "not a VAR"),
    ]


def test_bad_files(tmp_path, small):
    for source, words in broken_files(tmp_path, small):
        with pytest.raises(sdvar.CheckpointError, match=words) as caught:
            sdvar.load_var(source)
        assert source.name in str(caught.value)
        assert "weights_only" not in str(caught.value)  # never advise to run what a file holds
    assert not Payload.ran


def test_disagreeing_arguments(small):
    with pytest.raises(sdvar.CheckpointError, match=r"\(1, 2, 3, 4\) in the file, but \(1, 2\) was given"):
        sdvar.load_var(small.var.state_dict(), (1, 2))
    with pytest.raises(sdvar.CheckpointError, match="give patch_nums"):
        sdvar.load_tokenizer(small.vae.state_dict())
    with pytest.raises(sdvar.CheckpointError, match="not a tokenizer"):
        sdvar.load_tokenizer(small.var.state_dict(), (1, 2))
    with pytest.raises(ValueError, match="dtype"):
        sdvar.load_var(small.var.state_dict(), dtype=torch.int8)


def test_load_pair_from_files(tmp_path):
    pair = random_pair(dtype=torch.float32)
    for name in ("draft", "target", "tokenizer"):
        save_file(getattr(pair, name).state_dict(), tmp_path / f"{name}.safetensors")
    files = {name: tmp_path / f"{name}.safetensors" for name in ("draft", "target", "tokenizer")}
    loaded = sdvar.load_pair(**files)
    a, b = (sdvar.decode(p, [1], [2], sdvar.Speculative(2)) for p in (pair, loaded))
    assert torch.equal(a.images, b.images)
    save_file(random_var((1, 2), seed=1).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="pyramid must be the same"):
        sdvar.load_pair(**{**files, "draft": tmp_path / "other.safetensors"})


@pytest.mark.parametrize("arguments, words", [
    ({"pair": "huge"}, "tiny"), ({"pair": "tiny", "draft": "x.pth"}, "not both"),
    ({"draft": "x.pth"}, "target, tokenizer"),
    ({}, "draft, target, tokenizer"),
])  # fmt: skip
def test_bad_pairs(arguments, words):
    with pytest.raises(ValueError, match=words):
        sdvar.load_pair(**arguments)
