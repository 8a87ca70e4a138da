"""`load_var`, `load_tokenizer`, `load_pair`: sources in, models out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sdvar.checkpoints.configuration import (
    Weights,
    given_pyramid,
    tokenizer_arguments,
    var_arguments,
    var_pyramid,
)
from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.files import Source, name_of, read
from sdvar.checkpoints.filling import DTYPES, empty_model, fill
from sdvar.checkpoints.wrapped import TOKENIZER_KIND, VAR_KIND, choose
from sdvar.models.tokenizer import VQVAE
from sdvar.models.transformer import VAR
from sdvar.pair import ModelPair
from sdvar.pyramid import ScalePyramid

BUNDLED = Path(__file__).parents[1] / "bundled"


def load_var(
    source: Source,
    patch_nums: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VAR:
    """A VAR from weights with the released key names.

    Args:
        source: a state dict; a ``.pth`` or ``.safetensors`` file; ``hf://OWNER/REPO/FILE[@REVISION]``; or "d16", "d20",
            "d24", "d30", "d36" for the released files. Each may be a training checkpoint around the state dict. Tensors
            on the meta device give a model on the meta device.
        patch_nums: the pyramid; needed only where the file lacks ``lvl_1L`` and the length is not a released one's.
        device, dtype: of the result. For bfloat16 and float16 the blocks' matrices take that dtype, all else float32.

    Raises:
        CheckpointError: if the source cannot be read, is no VAR, or disagrees with ``patch_nums``.
        ValueError, TypeError: for another dtype, or arguments of the wrong kind.
    """
    _check_dtype(dtype)
    return _Opened.var(source, given_pyramid(patch_nums)).fill(device, dtype)


def load_tokenizer(
    source: Source,
    patch_nums: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VQVAE:
    """A VQVAE from weights with the released key names.

    Args:
        source: as in `load_var`; "vae" for the released file.
        patch_nums: the pyramid, which the file does not hold; in a pair it is the target's.
        device, dtype: of the result; float64, or float32 for every other dtype: f-hat is summed in full precision.

    Raises:
        CheckpointError: if the source cannot be read, is no tokenizer, or ``patch_nums`` is missing or does not fit.
        ValueError, TypeError: for another dtype, or arguments of the wrong kind.
    """
    _check_dtype(dtype)
    pyramid = given_pyramid(patch_nums)
    if pyramid is None:
        raise CheckpointError(
            f"{name_of(source)}: a tokenizer's file does not hold its pyramid; give patch_nums, as (1, 2, 3)"
        )
    return _Opened.tokenizer(source, pyramid).fill(device, dtype)


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

    That the three belong together is found out before any weights are loaded.

    Args:
        pair: name of a bundled pair, such as "tiny".
        draft, target, tokenizer: checkpoints instead, see `load_var` and `load_tokenizer`.
        patch_nums: the pyramid where the files do not hold it.
        device, dtype: of the models; see `load_var`.

    Raises:
        ValueError: for an unknown pair, or arguments that do not belong together.
        CheckpointError: if a checkpoint cannot be read or does not fit the others.
    """
    _check_dtype(dtype)
    given = {"draft": draft, "target": target, "tokenizer": tokenizer}
    missing = [name for name, source in given.items() if source is None]
    if pair is not None:
        if len(missing) < 3:
            raise ValueError("load_pair: give either a bundled pair's name or draft, target and tokenizer, not both")
        given = bundled_files(pair)
    elif missing:
        raise ValueError(f"load_pair: {', '.join(missing)} missing; give draft, target and tokenizer, or a pair's name")
    pyramid = given_pyramid(patch_nums)
    opened = {name: _Opened.var(given[name], pyramid) for name in ("target", "draft")}
    opened["tokenizer"] = _Opened.tokenizer(given["tokenizer"], opened["target"].model.pyramid)
    try:
        ModelPair(**{name: part.model for name, part in opened.items()})
    except ValueError as error:
        named = ", ".join(f"{name} {opened[name].name}" for name in given)
        raise CheckpointError(f"{named}: no pair: {error}. Give models that were trained on one tokenizer") from error
    return ModelPair(**{name: part.fill(device, dtype) for name, part in opened.items()})


def bundled_files(pair: str) -> dict[str, Path]:
    """Files of a bundled pair: draft, target, tokenizer.

    Raises:
        ValueError: for an unknown name; it lists the bundled pairs.
    """
    bundled = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir())
    if pair not in bundled:
        raise ValueError(
            f"pair: expected a bundled pair ({', '.join(bundled)}), got {pair!r}; for your own checkpoints give "
            "draft, target and tokenizer"
        )
    return {name: BUNDLED / pair / f"{name}.safetensors" for name in ("draft", "target", "tokenizer")}


@dataclass(frozen=True)
class _Opened:
    """A source that was read and fits a model, which is still without values."""

    name: str
    weights: Weights
    model: nn.Module

    @classmethod
    def var(cls, source: Source, pyramid: ScalePyramid | None) -> _Opened:
        name, weights = choose(name_of(source), read(source), VAR_KIND)
        arguments = var_arguments(name, weights) | {"patch_nums": var_pyramid(name, weights, pyramid)}
        return cls(name, weights, empty_model(name, VAR, arguments, weights))

    @classmethod
    def tokenizer(cls, source: Source, pyramid: ScalePyramid) -> _Opened:
        name, weights = choose(name_of(source), read(source), TOKENIZER_KIND)
        arguments = tokenizer_arguments(name, weights) | {"patch_nums": pyramid}
        return cls(name, weights, empty_model(name, VQVAE, arguments, weights))

    def fill(self, device: str | torch.device, dtype: torch.dtype) -> nn.Module:
        return fill(self.name, self.model, self.weights, device, dtype)


def _check_dtype(dtype: torch.dtype) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(map(str, DTYPES))}, got {dtype!r}")
