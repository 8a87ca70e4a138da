"""`load_var`, `load_tokenizer`, `load_pair`: sources in, models out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal

import torch

from sdvar.arguments import check_device
from sdvar.checkpoints.configuration import HOW_TO_GIVE_HEADS, Weights, given_pyramid, heads_are_guessed
from sdvar.checkpoints.errors import CheckpointError, named
from sdvar.checkpoints.filling import Model, check_values, empty_tokenizer, empty_var, fill
from sdvar.checkpoints.reading.choosing import choose
from sdvar.checkpoints.reading.files import read, stated_guidance, stated_heads, stated_rounding
from sdvar.checkpoints.reading.hub import BUNDLED
from sdvar.checkpoints.reading.sources import Source, chosen_path, name_of
from sdvar.checkpoints.reading.state_dicts import TOKENIZER_KIND, VAR_KIND
from sdvar.drafts import WORDS, check_draft, draft_of, of_target, rounded
from sdvar.models.dtypes import as_dtype
from sdvar.models.quantized import check_stated
from sdvar.models.tokenizer import VQVAE
from sdvar.models.transformer import VAR
from sdvar.pair import ModelPair, check_target
from sdvar.pyramid import ScalePyramid

log = logging.getLogger("sdvar.checkpoints")


def load_var(
    source: Source,
    patch_nums: Sequence[int] | ScalePyramid | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    heads: int | None = None,
) -> VAR:
    """A VAR from weights with the released key names.

    Args:
        source: a state dict; a ``.pth`` or ``.safetensors`` file, or a folder of shards; ``hf://OWNER/REPO/FILE[@REVISION]``;
            or "d16", "d20", "d24", "d30", "d36" for the released files. Each may be a training checkpoint around state
            dicts; ``SOURCE::PATH`` chooses one of several. Tensors on the meta device give a model on the meta device.
        patch_nums: the pyramid; needed only where the file lacks ``lvl_1L`` and the length is not a released one's.
        device, dtype: of the result. For bfloat16 and float16 the blocks' matrices take that dtype, all else float32.
            "auto" is bfloat16 where the device multiplies it in hardware, else float32.
        heads: attention heads, of a VAR without QK-normalisation, whose tensors do not tell it; without it a guess is
            logged as a warning.

    A safetensors file may state that the model has guidance inside, see `NextScaleModel.guidance_inside`, and that its
    blocks are rounded, see `VAR.rounded_to`; a state dict does not.

    Raises:
        CheckpointError: if the source cannot be read, is not a VAR, or disagrees with ``patch_nums`` or ``heads``; or
            states a rounding that does not run here.
        ValueError, TypeError: for another dtype, a device that this machine lacks, or arguments of the wrong kind.
    """
    device = check_device(device)
    dtype = as_dtype(dtype, device)
    opened = _opened_var(source, given_pyramid(patch_nums), _checked_heads(heads))
    _check_rounding(opened, device, dtype)
    return _rounded(opened.fill(device, dtype))


def load_full_var(
    source: Source,
    patch_nums: Sequence[int] | ScalePyramid | None = None,
    dtype: torch.dtype = torch.float32,
    heads: int | None = None,
) -> VAR:
    """As `load_var`, with the weights that the file holds where it states a rounding: to train or to write them."""
    return _opened_var(source, given_pyramid(patch_nums), _checked_heads(heads)).fill("cpu", dtype)


def load_tokenizer(
    source: Source,
    patch_nums: Sequence[int] | ScalePyramid | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | Literal["auto"] = torch.float32,
) -> VQVAE:
    """A VQVAE from weights with the released key names.

    Args:
        source: as in `load_var`; "vae" for the released file.
        patch_nums: the pyramid, which the file does not hold; in a pair it is the target's.
        device, dtype: of the result; float64, or float32 for every other dtype: f-hat is summed in full precision.

    Raises:
        CheckpointError: if the source cannot be read, is not a tokenizer, or ``patch_nums`` is missing or does not fit.
        ValueError, TypeError: for another dtype, a device that this machine lacks, or arguments of the wrong kind.
    """
    device = check_device(device)
    dtype = as_dtype(dtype, device)
    pyramid = given_pyramid(patch_nums)
    if pyramid is None:
        raise CheckpointError(
            f"{name_of(source)}: a tokenizer's file does not hold its pyramid; give patch_nums, as (1, 2, 3)"
        )
    return _opened_tokenizer(source, pyramid).fill(device, dtype)


def load_pair(
    pair: str | None = None,
    *,
    draft: Source | None = None,
    target: Source | None = None,
    tokenizer: Source | None = None,
    patch_nums: Sequence[int] | ScalePyramid | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    heads: Mapping[str, int] | None = None,
) -> ModelPair:
    """The models of a decode: a bundled pair by name, or three checkpoints.

    Whether the three belong together is checked before any weights are loaded.

    Args:
        pair: name of a bundled pair, such as "tiny".
        draft, target, tokenizer: checkpoints instead, see `load_var` and `load_tokenizer`. The draft may be made of the
            target's own weights, with a bundled pair too: "target:int8", see `sdvar.draft_of`.
        patch_nums: the pyramid where the files do not hold it.
        device, dtype: of the models; see `load_var`.
        heads: attention heads of "draft" and "target" where the files do not hold them; see `load_var`.

    Raises:
        ValueError: for an unknown pair, arguments that do not belong together, or a device that this machine lacks.
        CheckpointError: if a checkpoint cannot be read or does not fit the others.
    """
    device = check_device(device)
    dtype = as_dtype(dtype, device)
    given = {"draft": draft, "target": target, "tokenizer": tokenizer}
    sources = {name: source for name, source in given.items() if source is not None}
    own = str(draft) if of_target(draft) else None
    if pair is not None:
        if sources and (own is None or len(sources) > 1):
            raise ValueError(
                "load_pair: give either a bundled pair's name or draft, target and tokenizer, not both; only the draft "
                f"may be given with a name, as one of {', '.join(WORDS)}"
            )
        sources = dict(bundled_files(pair))
    elif missing := [name for name in given if name not in sources]:
        raise ValueError(f"load_pair: {', '.join(missing)} missing; give draft, target and tokenizer, or a pair's name")
    pyramid, given_heads = given_pyramid(patch_nums), dict(heads or {})
    if unknown := given_heads.keys() - {"draft", "target"}:
        raise ValueError(f"heads: expected draft and target as keys, got {', '.join(map(repr, sorted(unknown)))}")
    big = _opened_var(sources["target"], pyramid, _checked_heads(given_heads.get("target")))
    small = _opened_var(sources["draft"], pyramid, _checked_heads(given_heads.get("draft"))) if own is None else None
    if own is not None:
        check_draft(own, big.model.depth, dtype, device)
    if small is not None:
        _check_rounding(small, device, dtype)
    images = _opened_tokenizer(sources["tokenizer"], big.model.pyramid)
    try:
        check_target(big.model)
    except ValueError as error:
        raise CheckpointError(f"{big.name}: {error}") from None
    drafted = small.name if small else own
    try:
        ModelPair(small.model if small else big.model, big.model, images.model)
    except ValueError as error:
        raise CheckpointError(
            f"draft {drafted}, target {big.name}, tokenizer {images.name}: no pair: {error}. Give models that were "
            "trained on one tokenizer"
        ) from error
    filled = big.fill(device, dtype)
    made = _rounded(small.fill(device, dtype)) if small else draft_of(filled, str(own))
    return ModelPair(made, filled, images.fill(device, dtype))


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
class _Opened(Generic[Model]):
    """A source that was read and fits a model, which has no values yet."""

    name: str
    weights: Weights
    model: Model

    def fill(self, device: str | torch.device, dtype: torch.dtype) -> Model:
        with named(self.name):
            return fill(self.model, self.weights, device, dtype)


def _opened_var(source: Source, pyramid: ScalePyramid | None, heads: int | None) -> _Opened[VAR]:
    content = read(source)
    name, weights = choose(name_of(source), content, VAR_KIND, chosen_path(source))
    with named(name):
        if heads is None and heads_are_guessed(weights):
            heads = stated_heads(source)
            guessed = heads is None
        else:
            guessed = False
        check_values(source, weights)
        model = empty_var(weights, pyramid, heads)
    model.guidance_inside, model.rounded_to = stated_guidance(source), stated_rounding(source)
    if guessed:
        log.warning("%s: %d heads are a guess, its width over 64; %s", name, model.heads, HOW_TO_GIVE_HEADS)
    return _Opened(name, weights, model)


def _check_rounding(opened: _Opened[VAR], device: torch.device, dtype: torch.dtype) -> None:
    if opened.model.rounded_to is None:
        return
    try:
        check_stated(opened.name, opened.model.rounded_to, device, dtype)
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def _rounded(model: VAR) -> VAR:
    return rounded(model, model.rounded_to) if model.rounded_to else model


def _opened_tokenizer(source: Source, pyramid: ScalePyramid) -> _Opened[VQVAE]:
    content = read(source)
    name, weights = choose(name_of(source), content, TOKENIZER_KIND, chosen_path(source))
    with named(name):
        check_values(source, weights)
        return _Opened(name, weights, empty_tokenizer(weights, pyramid))


def _checked_heads(heads: int | None) -> int | None:
    if heads is not None and (not isinstance(heads, int) or isinstance(heads, bool) or heads < 1):
        raise ValueError(f"heads: expected an int >= 1, got {heads!r}")
    return heads
