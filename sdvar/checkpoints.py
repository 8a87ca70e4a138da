"""Weights on disk -> models. The configuration is read off the tensors; every loading error is written here."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sdvar.models.tokenizer import VQVAE
from sdvar.models.transformer import VAR
from sdvar.pair import ModelPair
from sdvar.pyramid import ScalePyramid

BUNDLED = Path(__file__).parent / "bundled"
KNOWN_PYRAMIDS = {680: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16), 2240: (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)}
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# buffers whose content follows from the configuration; a file may leave them out
DERIVED = ("lvl_1L", "attn_bias_for_masking", "zero_k_bias", "ema_vocab_hit_SV")

Source = str | os.PathLike | Mapping[str, Tensor]


class CheckpointError(ValueError):
    """A checkpoint cannot be read or does not fit; the message names the file, what is wrong and what to do."""


def load_var(
    source: Source,
    patch_nums: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VAR:
    """A VAR from a state dict or a file with the released key names.

    Args:
        source: a state dict, or a ``.pth`` or ``.safetensors`` file.
        patch_nums: the pyramid; needed only where the file lacks ``lvl_1L`` and the length is not a released one's.
        device, dtype: of the result. For bfloat16 and float16 the blocks' matrices take that dtype, all else float32.

    Raises:
        CheckpointError: if the file cannot be read, is no VAR, or disagrees with ``patch_nums``.
    """
    name, weights = _read(source)
    _expect(name, weights, "a VAR", ("pos_1LC", "pos_start", "class_emb.weight", "word_embed.weight", "head.weight"))
    width = weights["pos_1LC"].shape[-1]
    qk_norm = "blocks.0.attn.scale_mul_1H11" in weights
    _expect(name, weights, "a VAR", ("blocks.0.ffn.fc1.weight",))

    def build() -> VAR:
        return VAR(
            patch_nums=_pyramid_of_var(name, weights, patch_nums),
            num_classes=weights["class_emb.weight"].shape[0] - 1,
            depth=_count(weights, r"blocks\.(\d+)\."),
            width=width,
            heads=weights["blocks.0.attn.scale_mul_1H11"].shape[1] if qk_norm else width // 64,
            codebook_size=weights["head.weight"].shape[0],
            latent_channels=weights["word_embed.weight"].shape[1],
            mlp_ratio=weights["blocks.0.ffn.fc1.weight"].shape[0] / width,
            shared_adaln="shared_ada_lin.1.weight" in weights,
            qk_norm=qk_norm,
        )

    def low_precision(key: str) -> bool:
        # the matrices of the blocks; embeddings, attention scales and the head stay in float32
        in_blocks = key.startswith(("blocks.", "shared_ada_lin."))
        return in_blocks and not key.endswith(("scale_mul_1H11", "ada_gss"))

    return _fill(name, build, weights, device, dtype, low_precision)


def load_tokenizer(
    source: Source,
    patch_nums: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VQVAE:
    """A VQVAE from a state dict or a file with the released key names.

    Args:
        source: a state dict, or a ``.pth`` or ``.safetensors`` file.
        patch_nums: the pyramid, which the file does not hold; in a pair it is the target's.
        device, dtype: of the result; float64, or float32 for every other dtype: f-hat is summed in full precision.

    Raises:
        CheckpointError: if the file cannot be read, is no tokenizer, or ``patch_nums`` is missing or does not fit.
    """
    name, weights = _read(source)
    _expect(name, weights, "a tokenizer", ("quantize.embedding.weight", "encoder.conv_in.weight"))
    if patch_nums is None:
        raise CheckpointError(f"{name}: a tokenizer's file does not hold its pyramid; give patch_nums, as (1, 2, 3)")
    base = weights["encoder.conv_in.weight"].shape[0]
    levels = _count(weights, r"encoder\.down\.(\d+)\.")
    keys = [f"encoder.down.{i}.block.0.conv1.weight" for i in range(levels)]
    _expect(name, weights, "a tokenizer", keys)
    phis = _count(weights, r"quantize\.quant_resi\.qresi_ls\.(\d+)\.")

    def build() -> VQVAE:
        return VQVAE(
            patch_nums=ScalePyramid(tuple(patch_nums)),
            codebook_size=weights["quantize.embedding.weight"].shape[0],
            latent_channels=weights["quantize.embedding.weight"].shape[1],
            base_channels=base,
            channel_multipliers=[weights[key].shape[0] // base for key in keys],
            res_blocks=_count(weights, r"encoder\.down\.0\.block\.(\d+)\."),
            phi_sharing=phis or int("quantize.quant_resi.qresi.weight" in weights),
        )

    dtype = dtype if dtype == torch.float64 else torch.float32
    return _fill(name, build, weights, device, dtype, lambda key: False)


def load_pair(
    pair: str | None = None,
    *,
    draft: Source | None = None,
    target: Source | None = None,
    tokenizer: Source | None = None,
    patch_nums: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ModelPair:
    """The models of a decode: a bundled pair by name, or three checkpoints.

    Args:
        pair: name of a bundled pair, such as "tiny".
        draft, target, tokenizer: checkpoints instead, see load_var and load_tokenizer.
        patch_nums: the pyramid where the files do not hold it.
        device, dtype: of the models; see load_var.

    Raises:
        ValueError: for an unknown pair, or arguments that do not belong together.
        CheckpointError: if a checkpoint cannot be read or does not fit.
    """
    given = {"draft": draft, "target": target, "tokenizer": tokenizer}
    missing = [name for name, source in given.items() if source is None]
    if pair is not None:
        if len(missing) < 3:
            raise ValueError("load_pair: give either a bundled pair's name or draft, target and tokenizer, not both")
        bundled = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir())
        if pair not in bundled:
            raise ValueError(
                f"pair: expected a bundled pair ({', '.join(bundled)}), got {pair!r}; for your own checkpoints give "
                "draft, target and tokenizer"
            )
        draft, target, tokenizer = (BUNDLED / pair / f"{name}.safetensors" for name in given)
    elif missing:
        raise ValueError(f"load_pair: {', '.join(missing)} missing; give draft, target and tokenizer, or a pair's name")
    target_model = load_var(target, patch_nums, device, dtype)
    return ModelPair(
        draft=load_var(draft, patch_nums, device, dtype),
        target=target_model,
        tokenizer=load_tokenizer(tokenizer, target_model.pyramid.patch_nums, device, dtype),
    )


def _read(source: Source) -> tuple[str, Mapping[str, Tensor]]:
    """A name for error messages and the tensors."""
    if isinstance(source, Mapping):
        return "state dict", source
    path = Path(source)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a .pth or .safetensors checkpoint")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return str(path), load_file(path)
        # weights_only: a checkpoint must not be able to run code
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own message advises to switch weights_only off, which would run whatever the file holds
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__}); it is damaged, no checkpoint, or holds "
            "objects other than tensors, which are refused. Download it again or save its state_dict"
        ) from None
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path}: expected names and tensors, got something else; save model.state_dict()")
    return str(path), loaded


def _expect(name: str, weights: Mapping[str, Tensor], kind: str, keys: Sequence[str]) -> None:
    missing = [key for key in keys if key not in weights]
    if missing:
        some = ", ".join(list(weights)[:5]) or "no tensors"
        raise CheckpointError(
            f"{name}: not {kind} of the released format: {', '.join(missing[:5])} missing; it holds {some} …"
        )


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    found = {int(match[1]) for match in map(re.compile(pattern).match, weights) if match}
    return max(found) + 1 if found else 0


def _pyramid_of_var(name: str, weights: Mapping[str, Tensor], given: Sequence[int] | None) -> ScalePyramid:
    length = weights["pos_1LC"].shape[1]
    wanted = None if given is None else ScalePyramid(tuple(given))
    held = None
    if "lvl_1L" in weights:
        counts = weights["lvl_1L"].flatten().long().bincount().tolist()
        held = ScalePyramid(tuple(math.isqrt(count) for count in counts))
    elif length in KNOWN_PYRAMIDS:
        held = ScalePyramid(KNOWN_PYRAMIDS[length])
    if held and wanted and held != wanted:
        raise CheckpointError(f"{name}: patch_nums is {held.patch_nums} in the file, but {wanted.patch_nums} was given")
    pyramid = held or wanted
    if pyramid is None:
        raise CheckpointError(f"{name}: the pyramid of {length} tokens is not in the file; give patch_nums")
    if pyramid.length != length:
        raise CheckpointError(f"{name}: {length} positions, but patch_nums {pyramid.patch_nums} makes {pyramid.length}")
    return pyramid


def _fill(
    name: str,
    build: Callable[[], nn.Module],
    weights: Mapping[str, Tensor],
    device: str | torch.device,
    dtype: torch.dtype,
    low_precision: Callable[[str], bool],
) -> nn.Module:
    """Build the model without memory and give it the tensors, converted one by one."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(map(str, DTYPES))}, got {dtype!r}")
    with torch.device("meta"):
        model = build()
    expected = model.state_dict()
    derived = {key for key in expected if key.rsplit(".", 1)[-1] in DERIVED}
    problems = {
        "missing": [key for key in expected if key not in weights and key not in derived],
        "unexpected": [key for key in weights if key not in expected],
        "mis-shaped": [
            f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in expected
            if key in weights and weights[key].shape != expected[key].shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{len(keys)} {what}: {', '.join(keys[:5])}" for what, keys in problems.items() if keys)
        raise CheckpointError(f"{name}: does not fit the {type(model).__name__} that its tensors describe: {listed}")

    full = dtype if dtype == torch.float64 else torch.float32
    converted = {}
    for key, value in weights.items():
        if key not in derived:
            converted[key] = value.to(device=device, dtype=dtype if low_precision(key) else full)
            if not converted[key].isfinite().all():
                raise CheckpointError(
                    f"{name}: {key} holds NaN or infinite numbers; the file is damaged or training diverged"
                )
    for key in derived:
        kind = dtype if low_precision(key) else full
        converted[key] = _derived_buffer(model, key, expected[key].shape).to(device=device, dtype=kind)
        if key == "lvl_1L":
            converted[key] = converted[key].long()
    model.load_state_dict(converted, assign=True)
    return model.eval().requires_grad_(False)


def _derived_buffer(model: nn.Module, key: str, shape: torch.Size) -> Tensor:
    if key == "lvl_1L":
        return model.pyramid.scale_of_position()[None]
    if key == "attn_bias_for_masking":
        visible = model.pyramid.block_causal_mask(0, len(model.pyramid))
        return torch.zeros(shape).masked_fill(~visible, -math.inf)
    return torch.zeros(shape)
