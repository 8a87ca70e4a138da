"""A draft and a target over one tokenizer."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sdvar.arguments import check_device
from sdvar.guidance import words
from sdvar.models.protocol import NextScaleModel
from sdvar.models.tokenizer import VQVAE
from sdvar.pyramid import ScalePyramid
from sdvar.sampling import Sampling

if TYPE_CHECKING:
    from sdvar.decoding.result import DecodeResult


@dataclass(frozen=True, repr=False)
class ModelPair:
    """The models of a decode, in eval mode on one device.

    Args:
        draft: the small model, a VAR or another `NextScaleModel`.
        target: the large one.
        tokenizer: the VQVAE that both were trained on.

    Attributes:
        tuned: what ``gamma="auto"`` stands for with this pair, see `sdvar.planning.tuning`.

    Raises:
        TypeError: for something that is not such a model.
        ValueError: if pyramids, codebooks, classes or devices differ.
    """

    draft: NextScaleModel
    target: NextScaleModel
    tokenizer: VQVAE
    tuned: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, kind in (("draft", NextScaleModel), ("target", NextScaleModel), ("tokenizer", VQVAE)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name}: expected a sdvar.{kind.__name__}, got {type(getattr(self, name)).__name__}")
        for what in ("pyramid", "codebook_size", "latent_channels"):
            values = {name: getattr(getattr(self, name), what) for name in ("draft", "target", "tokenizer")}
            self._same(what, {k: v.patch_nums if isinstance(v, ScalePyramid) else v for k, v in values.items()})
        self._same("num_classes", {name: getattr(self, name).num_classes for name in ("draft", "target")})
        check_target(self.target)
        models: dict[str, NextScaleModel | VQVAE] = {
            "draft": self.draft,
            "target": self.target,
            "tokenizer": self.tokenizer,
        }
        self._same("device", {name: model.device for name, model in models.items()})
        for model in models.values():
            if isinstance(model, nn.Module):
                model.eval()

    def __repr__(self) -> str:
        models = ", ".join(f"{name} {_size(getattr(self, name))}" for name in ("draft", "target", "tokenizer"))
        sides = "-".join(map(str, self.pyramid.patch_nums))
        return f"ModelPair({models}, scales {sides}, {self.num_classes} classes, on {self.device})"

    def to(self, device: str | torch.device) -> ModelPair:
        """Move the models to a device, in place as `torch.nn.Module.to` does, and return the pair.

        The dtype is that of loading: a VAR in bfloat16 keeps parts of it in float32, see `sdvar.load_var`.

        Raises:
            ValueError: this machine has no such device.
        """
        place = check_device(device)
        for model in (self.draft, self.target, self.tokenizer):
            model.to(place)  # type: ignore[union-attr]
        return self

    @staticmethod
    def save_images(images: DecodeResult | torch.Tensor, folder: str | os.PathLike) -> list[Path]:
        """Write images as PNG files, see `sdvar.save_images`."""
        from sdvar.pictures import save_images  # decoding imports this module

        return save_images(images, folder)

    @staticmethod
    def _same(what: str, values: dict[str, object]) -> None:
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{name} {value}" for name, value in values.items())
            raise ValueError(f"{what} must be the same in all models of a pair, got {listed}")

    @property
    def pyramid(self) -> ScalePyramid:
        return self.target.pyramid

    @property
    def num_classes(self) -> int:
        return self.target.num_classes

    @property
    def device(self) -> torch.device:
        return self.target.device


def check_target(model: NextScaleModel) -> None:
    """Raise ValueError for a model that can be a draft alone.

    With guidance inside, every baseline would have that, whatever its sampling says. One whose file states a rounding
    was made for a draft's speed, and no draft can be made of its weights.
    """
    if model.guidance_inside is not None:
        raise ValueError(
            f"target: expected a model whose guidance takes a null branch, got one with guidance inside for "
            f"{words(model.guidance_inside)}; give it as the draft"
        )
    if kind := getattr(model, "rounded_to", None):
        raise ValueError(
            f"target: expected a model whose weights are as its file has them, got one that is rounded to {kind}; give "
            "it as the draft"
        )


def _size(model: Any) -> str:
    """A model in a few words: VAR of depth 16, bfloat16, 310.3M parameters."""
    if not isinstance(model, nn.Module):
        return type(model).__name__
    depth = f" of depth {model.depth}" if hasattr(model, "depth") else ""
    millions = sum(weights.numel() for weights in model.parameters()) / 1e6
    dtype = str(getattr(model, "dtype", "")).removeprefix("torch.")
    guidance: Sampling | None = getattr(model, "guidance_inside", None)
    inside = f", guidance inside for {words(guidance)}" if guidance else ""
    kind = getattr(model, "rounded_to", None)
    rounding = f", rounded to {kind}" if kind else ""
    return (
        f"{type(model).__name__}{depth} ({f'{dtype}, ' if dtype else ''}{millions:,.1f}M parameters{inside}{rounding})"
    )
