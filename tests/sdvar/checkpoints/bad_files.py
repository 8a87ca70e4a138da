"""Checkpoint files that must be refused, as tables, and what every refusal has in common."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from numpy.testing._private.utils import runstring
from safetensors.torch import save
from torch import Tensor

import sdvar
from tests import reference

RAN = []


def run(*arguments: object) -> None:
    RAN.append(arguments)


class Payload:
    """Runs code when unpickled, if anything does."""

    def __reduce__(self):
        return run, ("from a file",)


class Own:
    """A harmless class that nobody can know as such."""


def pth(content: object, legacy: bool = False, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy, **options)
    return buffer.getvalue()


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return buffer.getvalue()


SMALL = reference.load("small")
PATCH_NUMS = SMALL.config["model"]["patch_nums"]
VAR = SMALL.var.state_dict()
VAE = SMALL.vae.state_dict()
VAR_PTH, VAR_SAFE = pth(VAR), save(VAR)


def var_with(**changes: Tensor) -> bytes:
    """A .pth of a VAR with other tensors: dots in names are written as two underscores."""
    return pth(VAR | {key.replace("__", "."): value for key, value in changes.items()})


def var_without(*endings: str) -> bytes:
    return pth({key: value for key, value in VAR.items() if not key.endswith(endings)})


def vae_with_channels(channels: int) -> bytes:
    """A tokenizer whose convolutions have fewer channels at full resolution."""
    narrow = dict(VAE)
    for key in ("encoder.conv_in.weight", "encoder.down.0.block.0.conv1.weight"):
        narrow[key] = VAE[key][:channels]
    return pth(narrow)


def level(counts: dict[int, int]) -> Tensor:
    return torch.cat([torch.full((count,), scale) for scale, count in counts.items()])[None]


def tarred(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("var.pth")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1242432412\n"
NAN, INF = float("nan"), float("inf")
BIAS = VAR["head.bias"]
# name of the file: its content (None: no file), what loads it, words of the message
VAR_CASES: dict[str, tuple[bytes | None, str]] = {
    "none.pth": (None, "no such file; expected a .pth or .safetensors checkpoint"),
    "empty.pth": (b"", "the file is empty. Download or copy it again"),
    "empty.safetensors": (b"", "the file is empty"),
    "text.pth": (b"weights, honest", "no file of torch.save and no safetensors file. Download or"),
    "text.safetensors": (b"weights, honest", "no safetensors file. Download or copy it again"),
    "web_page.pth": (
        b"\n<!DOCTYPE html><title>404</title>" * 99,
        "a web page or XML, not a checkpoint; download",
    ),
    "pointer.pth": (LFS_POINTER, "a Git LFS pointer, not the weights; run git lfs pull"),
    "pointer.safetensors": (LFS_POINTER, "a Git LFS pointer, not the weights; run git lfs pull"),
    "archive.pth.gz": (gzip.compress(b"weights"), "an archive of gzip; unpack it and give the file in it"),
    "archive.pth.zst": (b"\x28\xb5\x2f\xfd" * 99, "an archive of zstd; unpack it and give the file in it"),
    "archive.tar": (tarred(VAR_PTH), "an archive of tar; unpack it and give the file in it"),
    "text_mode.pth": (VAR_PTH.replace(b"\n", b"\r\n"), "damaged, cut off"),
    "zeros_near_the_end.pth": (VAR_PTH[:-900] + bytes(100) + VAR_PTH[-800:], "damaged, cut off"),
    "zeros.pth": (bytes(1000), "damaged, cut off"),
    "keras.h5": (b"\x89HDF\r\n\x1a\n" * 99, "an HDF5 file; give a .pth or .safetensors file"),
    "__0_0.distcp": (
        VAR_PTH,
        "a part of torch.distributed.checkpoint (DCP); make a file of it: python -m torch",
    ),
    "protocol_4.pth": (
        pth(VAR, pickle_protocol=4),
        "was pickled in another form. Save the model's state_dict()",
    ),
    "archive.zip": (
        zipped("a.pth", "b.txt"),
        "is a zip archive of a.pth, b.txt, which torch.save did not write. Unpack",
    ),
    "weights.npy": (b"\x93NUMPY\x01\0" * 99, "an array of NumPy; give a .pth or .safetensors file"),
    "one_byte.pth": (VAR_PTH[:1], "damaged, cut off"),
    "cut_in_head.pth": (VAR_PTH[:30], "damaged, cut off"),
    "cut_in_half.pth": (VAR_PTH[: len(VAR_PTH) // 2], "damaged, cut off"),
    "cut_at_end.pth": (VAR_PTH[:-1], "damaged, cut off"),
    "cut_legacy.pth": (pth(VAR, legacy=True)[:-1000], "damaged, cut off"),
    "cut_legacy_early.pth": (pth(VAR, legacy=True)[:100], "damaged, cut off"),
    "cut_in_head.safetensors": (VAR_SAFE[:30], "damaged, cut off"),
    "cut_in_half.safetensors": (VAR_SAFE[: len(VAR_SAFE) // 2], "damaged, cut off"),
    "cut_at_end.safetensors": (VAR_SAFE[:-1], "damaged, cut off"),
    "too_long.safetensors": (VAR_SAFE + b"more", "damaged"),
    "code.pth": (pth(VAR | {"a": Payload()}), "holds tests.sdvar.checkpoints.bad_files.run, and objects other than"),
    "code_legacy.pth": (pth({"a": Payload()}, legacy=True), "can run code. Save the model's state_dict() alone"),
    "code_pickle.pth": (pickle.dumps({"a": Payload()}, protocol=2), "can run code"),
    "code_wrapped.pth": (pth({"trainer": {"var_wo_ddp": VAR}, "args": Payload()}), "can run code"),
    "function.pth": (pth({"model": VAR, "at": time.sleep}), "it holds time.sleep, and objects other than tensors"),
    "builtin.pth": (pth({"model": VAR, "at": eval}), "it holds builtins.eval, and objects other than tensors"),
    "own_class.pth": (
        pth({"model": VAR, "at": Own()}),
        "holds tests.sdvar.checkpoints.bad_files.Own, and",
    ),
    "gadget.pth": (pth({"model": VAR, "at": runstring}), "it holds numpy.testing._private.utils.runstring, and"),
    "whole_model.pth": (pth(torch.nn.Linear(1, 1)), "holds torch.nn.modules.linear.Linear"),
    "list.pth": (pth([1, 2]), "expected names and tensors, got a list; save the model's state_dict()"),
    "tensor.pth": (pth(BIAS), "got a Tensor"),
    "nothing.pth": (pth({}), "expected names and tensors, got nothing; save"),
    "numbers.pth": (pth({"head.bias": BIAS, "epoch": 3}), "not a VAR of the released format: pos_1LC, pos_start"),
    "numbered.pth": (pth({1: BIAS, 2: BIAS}), "expected names and tensors, got 1 (Tensor), 2 (Tensor)"),
    "unusable.pth": (
        pth({"epoch": 3, "iter": 9, "trainer": {"config": {}, "opt": {"a": 1}}}),
        "expected names and tensors, got epoch (int), iter (int), trainer (dict of config, opt); save",
    ),
    "no_var.pth": (
        pth({"trainer": {"vae_local": VAE}, "model": {"a": BIAS}}),
        "no_var.pth::trainer.vae_local: not a VAR of the released format",
    ),
    "two_tokenizers.pth": (
        pth({"trainer": {"vae_local": VAE}, "model": {key: value + 1 for key, value in VAE.items()}}),
        "no VAR in it; it holds trainer.vae_local (tokenizer), model (tokenizer). Give the checkpoint of a VAR",
    ),
    "no_model.pth": (
        pth({"model": {"a": BIAS}, "optimizer": {"b": BIAS}}),
        "no VAR in it; it holds model (dict of a), optimizer (dict of b)",
    ),
    "twice.pth": (pth(VAR | {"module.head.bias": BIAS}), "1 unexpected: module.head.bias. Save"),
    "tokenizer.pth": (pth(VAE), "not a VAR of the released format: pos_1LC, pos_start, class_emb.weight, word_embed"),
    "tokenizer_advice.pth": (pth(VAE), "It is a tokenizer: give it as the tokenizer"),
    "strange.pth": (pth({"a": BIAS, "b": BIAS}), "missing; it holds a, b, …"),
    "nan.pth": (var_with(head__bias=BIAS.clone().index_fill_(0, torch.tensor(5), NAN)), "head.bias holds NaN or inf"),
    "inf.pth": (var_with(head__bias=BIAS.clone().index_fill_(0, torch.tensor(5), INF)), "head.bias holds NaN or inf"),
    "minus_inf.pth": (var_with(pos_start=torch.full_like(VAR["pos_start"], -INF)), "pos_start holds NaN or inf"),
    "integers.pth": (var_with(head__bias=BIAS.int()), "head.bias is of torch.int32"),
    "booleans.pth": (var_with(head__bias=BIAS > 0), "head.bias is of torch.bool"),
    "complex.pth": (var_with(head__bias=BIAS.to(torch.complex64)), "head.bias is of torch.complex64"),
    "float8.pth": (var_with(head__bias=BIAS.to(torch.float8_e4m3fn)), "save the weights before quantisation"),
    "sparse.pth": (var_with(head__weight=VAR["head.weight"].to_sparse()), "torch.sparse_coo), expected dense"),
    "meta.pth": (
        pth({key: value.to("meta") for key, value in VAR.items()}),
        "38 of its 38 tensors were saved from the",
    ),
    "one_meta.pth": (
        var_with(head__bias=BIAS.to("meta")),
        "1 of its 38 tensors were saved from the meta device, without values: head.bias. Save",
    ),
    "short.pth": (var_with(head__bias=BIAS[:-1]), "1 mis-shaped: head.bias (63,) instead of (64,)"),
    "lacking.pth": (var_without("blocks.1.ffn.fc2.bias"), "1 missing: blocks.1.ffn.fc2.bias. Save the state_dict()"),
    "many_lacking.pth": (
        var_without("bias"),
        "missing: word_embed.bias, blocks.0.attn.q_bias, blocks.0.attn.v_bias, blocks.0.attn.proj.bias, "
        "blocks.0.ffn.fc1.bias. Save",
    ),
    "extra.pth": (var_with(more=torch.zeros(1)), "1 unexpected: more. Save"),
    "block_lacking.pth": (
        pth({key.replace("blocks.1.", "blocks.7."): value for key, value in VAR.items()}),
        "blocks.1 missing, though there is blocks.7; the file is incomplete",
    ),
    "flat_positions.pth": (var_with(pos_1LC=VAR["pos_1LC"][0]), "pos_1LC has the shape (30, 64), expected 3 dimen"),
    "number_for_head.pth": (var_with(head__weight=torch.tensor(1.0)), "head.weight has the shape (), expected 2"),
    "no_classes.pth": (var_with(class_emb__weight=torch.zeros(0, 64)), "class_emb.weight has the shape (0, 64)"),
    "heads.pth": (var_with(blocks__0__attn__scale_mul_1H11=torch.ones(1, 5, 1, 1)), "does not divide into 5 heads"),
    "positions.pth": (var_with(pos_1LC=VAR["pos_1LC"][:, :-1]), "pos_1LC has 29 positions, but lvl_1L (1, 2, 3, 4)"),
    "levels_not_square.pth": (var_with(lvl_1L=level({0: 1, 1: 4, 2: 9, 3: 15})), "it holds [1, 4, 9, 15] … positions"),
    "levels_shrink.pth": (var_with(lvl_1L=level({0: 1, 1: 9, 2: 4, 3: 16})), "expected squares that do not shrink"),
    "levels_skip.pth": (var_with(lvl_1L=level({0: 1, 1: 4, 2: 9, 9: 16})), "the scales [0, 1, 2, 9]"),
    "levels_negative.pth": (var_with(lvl_1L=level({-1: 1, 1: 4, 2: 9, 3: 16})), "the scales [-1, 1, 2, 3]"),
    "levels_complex.pth": (var_with(lvl_1L=VAR["lvl_1L"].to(torch.complex64)), "lvl_1L is of torch.complex64"),
    "levels_float8.pth": (var_with(lvl_1L=VAR["lvl_1L"].to(torch.float8_e4m3fn)), "lvl_1L is of torch.float8_e4m3fn"),
    "levels_sparse.pth": (var_with(lvl_1L=VAR["lvl_1L"].to_sparse()), "expected dense integers; leave it out and give"),
    "line_feed.pth": (pth(VAR | {"a\nb": BIAS}), "1 unexpected: a\\nb. Save"),
    "escapes.pth": (
        pth({"\x1b[1m": VAR, "b": VAR | {"head.bias": BIAS + 1}}),
        "holds 2 VARs: \\x1b[1m, b; choose",
    ),
    "no_levels.pth": (var_without("lvl_1L"), "the pyramid of its 30 tokens is not in the file; give patch_nums"),
}
TOKENIZER_CASES: dict[str, tuple[bytes | None, str]] = {
    "var.pth": (VAR_PTH, "not a tokenizer of the released format: quantize.embedding.weight, encoder.conv_in.weight"),
    "var_advice.pth": (VAR_PTH, "It is a VAR: give it as the draft or the target"),
    "vae_nan.pth": (pth(VAE | {"quant_conv.bias": VAE["quant_conv.bias"] * NAN}), "quant_conv.bias holds NaN"),
    "groups.pth": (
        vae_with_channels(20),
        "a VQVAE that cannot be built (num_channels",
    ),
    "vae_lacking.pth": (
        pth({key: value for key, value in VAE.items() if not key.startswith("encoder.down.0.")}),
        "encoder.down.0 missing",
    ),
    "no_levels_at_all.pth": (
        pth({key: value for key, value in VAE.items() if not key.startswith("encoder.down.")}),
        "encoder.down.0.block.0.conv1.weight missing",
    ),
    "vae_half.pth": (
        pth({key: value for key, value in VAE.items() if key.startswith("enc") or "embedding" in key}),
        "missing: decoder.conv_in.weight",
    ),
}


def one_error(load: Callable[[], object], *names: str) -> str:
    """The message of the one error; in one line, naming the files, never advising to run what a file holds."""
    with pytest.raises(sdvar.CheckpointError) as caught:
        load()
    message = str(caught.value)
    assert "\n" not in message and "weights_only" not in message
    for name in names:
        assert name in message
    return message


def written(path: Path, content: bytes | None) -> Path:
    if content is not None:
        path.write_bytes(content)
    return path
