"""What is refused: every bad input gives one error that names the file, says what is wrong and what to do."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import sdvar
from tests.random_pairs import random_var
from tests.sdvar.checkpoints.bad_files import (
    NAN,
    PATCH_NUMS,
    RAN,
    SMALL,
    TOKENIZER_CASES,
    VAE,
    VAR,
    VAR_CASES,
    VAR_PTH,
    Payload,
    one_error,
    pth,
    var_with,
    var_without,
    written,
)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:Validating sparse tensor")
@pytest.mark.parametrize("name", VAR_CASES)
def test_bad_vars(tmp_path, name):
    content, words = VAR_CASES[name]
    file = written(tmp_path / name, content)
    message = one_error(lambda: sdvar.load_var(file), str(file))
    assert words in message
    assert not RAN


def test_names_that_are_no_checkpoint():
    assert "expected a file or a name of the hub, got an empty text" in one_error(lambda: sdvar.load_var(""))
    assert "a bundled pair, no checkpoint; give it as the pair" in one_error(lambda: sdvar.load_var("tiny"), "tiny")


@pytest.mark.parametrize("name", TOKENIZER_CASES)
def test_bad_tokenizers(tmp_path, name):
    content, words = TOKENIZER_CASES[name]
    file = written(tmp_path / name, content)
    assert words in one_error(lambda: sdvar.load_tokenizer(file, PATCH_NUMS), str(file))


def test_the_payload_does_run_where_code_is_allowed():
    """Else the cases above would prove nothing."""
    pickle.loads(pickle.dumps(Payload()))
    assert RAN.pop() == ("from a file",)


def test_minus_infinity_in_the_mask_is_no_fault(tmp_path):
    assert VAR["attn_bias_for_masking"].isinf().any()
    assert sdvar.load_var(written(tmp_path / "var.pth", VAR_PTH)).depth == SMALL.var.depth


def test_a_folder(tmp_path):
    assert "a folder; give the .pth or .safetensors file" in one_error(lambda: sdvar.load_var(tmp_path), str(tmp_path))


def test_numbers_beyond_float16(tmp_path):
    fc1 = VAR["blocks.0.ffn.fc1.weight"].clone()
    fc1[0, 0] = 1e6
    file = written(tmp_path / "large.pth", var_with(blocks__0__ffn__fc1__weight=fc1))
    message = one_error(lambda: sdvar.load_var(file, dtype=torch.float16), str(file))
    assert "fc1.weight holds numbers that torch.float16 cannot; load it in torch.bfloat16" in message
    assert sdvar.load_var(file, dtype=torch.bfloat16).depth == SMALL.var.depth


def test_a_given_pyramid_that_the_file_contradicts(tmp_path):
    file = written(tmp_path / "var.pth", VAR_PTH)
    message = one_error(lambda: sdvar.load_var(file, (1, 2)), str(file))
    assert "patch_nums is (1, 2, 3, 4) in the file, but (1, 2) was given" in message
    file = written(tmp_path / "short.pth", var_without("lvl_1L"))
    message = one_error(lambda: sdvar.load_var(file, (1, 2)), str(file))
    assert "pos_1LC has 30 positions, but the given patch_nums (1, 2) makes 5" in message
    file = written(tmp_path / "vae.pth", pth(VAE))
    assert "give patch_nums" in one_error(lambda: sdvar.load_tokenizer(file), str(file))
    message = one_error(lambda: sdvar.load_tokenizer(file, (1, 2)), str(file))
    assert "mis-shaped: quantize.ema_vocab_hit_SV (4, 64) instead of (2, 64)" in message


@pytest.mark.parametrize("change, words", [
    ({"patch_nums": (1, 2, 4)}, "pyramid must be the same in all models of a pair, got draft (1, 2, 4)"),
    ({"vocabulary": 40}, "codebook_size must be the same in all models of a pair, got draft 40"),
])  # fmt: skip
def test_models_that_are_no_pair(tmp_path, change, words):
    target, draft = (random_var(**{"patch_nums": (1, 2, 3), "seed": 2, **extra}) for extra in ({}, change))
    refuse_pair(tmp_path, draft.state_dict(), target.state_dict(), words)


def test_other_classes_are_no_pair(tmp_path):
    target = random_var((1, 2, 3), seed=2).state_dict()
    draft = target | {"class_emb.weight": target["class_emb.weight"][:-3]}
    refuse_pair(tmp_path, draft, target, "num_classes must be the same in all models of a pair, got draft 7, target 10")


def test_another_codebook_is_no_pair(tmp_path):
    target = random_var((1, 2, 3), seed=2, vocabulary=16).state_dict()
    refuse_pair(tmp_path, target, target, "codebook_size must be the same")


def refuse_pair(folder: Path, draft: dict[str, Tensor], target: dict[str, Tensor], words: str) -> None:
    tokenizer = sdvar.VQVAE((1, 2, 3), 32, 8, base_channels=32, channel_multipliers=(1, 1)).state_dict()
    # broken weights: the pair is refused before any are looked at
    draft["head.bias"] = draft["head.bias"] * NAN
    files = {"draft": draft, "target": target, "tokenizer": tokenizer}
    for name, state in files.items():
        save_file(state, folder / f"{name}.safetensors")
    paths = {name: folder / f"{name}.safetensors" for name in files}
    assert words in one_error(lambda: sdvar.load_pair(**paths), *(f"{name} {path}" for name, path in paths.items()))


@pytest.mark.parametrize("name", ["pipe.pth", "pipe.safetensors"])
def test_a_pipe_does_not_wait_for_a_writer(tmp_path, name):
    os.mkfifo(tmp_path / name)
    message = one_error(lambda: sdvar.load_var(tmp_path / name), str(tmp_path / name))
    assert "not a regular file but a pipe" in message


def test_a_tensor_expanded_from_a_few_bytes(tmp_path):
    """The file has a kilobyte; a copy of the tensor would take 512 GB."""
    file = written(tmp_path / "expanded.pth", var_with(pos_1LC=torch.zeros(1, 1, 1).expand(1, 2**31, 64)))
    message = one_error(lambda: sdvar.load_var(file), str(file))
    assert "pos_1LC of shape (1, 2147483648, 64) takes 549,755,813,888 bytes, but only 4 are stored" in message
