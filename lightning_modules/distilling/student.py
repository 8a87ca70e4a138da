"""The draft before training: new weights, those of a checkpoint, or layers of the target or of a checkpoint."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import torch
from torch import nn

from sdvar.checkpoints.loading import load_full_var
from sdvar.models.transformer import VAR
from sdvar.sampling import Sampling

SCRATCH = "scratch"
LAYERS = re.compile(r"(?:(?P<file>.+):)?layers=(?P<numbers>.*)")
HEAD_WIDTH = 64  # of every released VAR: width 64 depth, depth heads
BYTES_PER_WEIGHT = 24  # the weight, its gradient, two moments of AdamW, the average, and a copy while they are swapped


@dataclass(frozen=True)
class Shape:
    """What is asked of a student; None is the rule of the released models, or what the initial weights say.

    Args:
        init: "scratch", a checkpoint as `sdvar.load_var` takes it, "layers=0,4,8" of the target, or
            "FILE:layers=0,4,8" of a checkpoint.
        depth, width, heads: of the VAR.

    Raises:
        ValueError: naming the option.
    """

    init: str = SCRATCH
    depth: int | None = None
    width: int | None = None
    heads: int | None = None

    def __post_init__(self) -> None:
        if found := LAYERS.fullmatch(self.init):
            if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", found["numbers"]):
                raise ValueError(f"init: expected numbers of layers, [FILE:]layers=0,4,8; got {self.init!r}")
            if self.depth not in (None, len(self.layers)):
                raise ValueError(
                    f"depth: expected {len(self.layers)}, the layers of --init {self.init}, or none; got {self.depth}"
                )
        elif self.init == SCRATCH and self.depth is None:
            raise ValueError("depth: expected an int >= 1 with --init scratch, got none")
        if self.init == SCRATCH and self._width % self._heads:
            raise ValueError(f"heads: expected a divisor of the width {self._width}, got {self._heads}")

    @property
    def layers(self) -> list[int]:
        """The layers that it begins with, none if it begins otherwise."""
        found = LAYERS.fullmatch(self.init)
        return [int(layer) for layer in found["numbers"].split(",")] if found else []

    @property
    def file(self) -> str | None:
        """The checkpoint that it begins with, or whose layers; None for the target's or new weights."""
        if found := LAYERS.fullmatch(self.init):
            return found["file"]
        return None if self.init == SCRATCH else self.init

    @property
    def _width(self) -> int:
        return self.width or HEAD_WIDTH * (self.depth or 0)

    @property
    def _heads(self) -> int:
        return self.heads or max(1, self._width // HEAD_WIDTH)

    def arguments(self, target: VAR) -> dict:
        """Those of `sdvar.VAR` for a student with new weights, in all else like the target."""
        return {
            "patch_nums": target.pyramid,
            "num_classes": target.num_classes,
            "depth": self.depth,
            "width": self._width,
            "heads": self._heads,
            "codebook_size": target.codebook_size,
            "latent_channels": target.latent_channels,
            "mlp_ratio": target.hidden / target.width,
            "shared_adaln": target.shared_ada_lin is not None,
            "qk_norm": target.blocks[0].attn.qk_norm,
        }

    def check(self, model: VAR) -> None:
        """Raise ValueError unless it can begin as a model does, or as some layers of it."""
        whose = self.file or "the target"
        if wrong := [layer for layer in self.layers if layer >= model.depth]:
            raise ValueError(f"init: expected layers from 0 to {model.depth - 1} of {whose}, got {wrong[0]}")
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"init: expected each layer once, got {','.join(map(str, self.layers))}")
        whose += ", whose layers are taken" if self.layers else ""
        for name in ("width", "heads") if self.layers else ("depth", "width", "heads"):
            asked, found = getattr(self, name), getattr(model, name)
            if asked not in (None, found):
                raise ValueError(f"{name}: expected {found}, that of {whose}, or none; got {asked}")


def make_student(
    shape: Shape, target: VAR, target_file: str, inside: Sampling | None = None, rounded_to: str | None = None
) -> VAR:
    """A student in float32 on the CPU, to be trained.

    Args:
        shape: what is asked for.
        target: the teacher, in any dtype.
        target_file: from where its layers are read in float32.
        inside: the guidance that it is to give by itself, if it is.
        rounded_to: the kind that its blocks are to run in, if they are; its own weights stay as they are.

    Raises:
        ValueError: the initial weights cannot be read or do not fit, or there is too little memory.
    """
    student = _initial(shape, target, target_file)
    student.guidance_inside, student.rounded_to = inside, rounded_to  # also where the initial weights had others
    return student


def _initial(shape: Shape, target: VAR, target_file: str) -> VAR:
    if shape.init != SCRATCH:
        student = load_full_var(shape.file or target_file, target.pyramid)
        shape.check(student)
        if shape.layers:
            student.blocks = nn.ModuleList(student.blocks[layer] for layer in shape.layers)  # type: ignore
            student.depth = len(shape.layers)
        return student
    _check_memory(_weights(shape.arguments(target)))
    student = VAR(**shape.arguments(target))
    student.init_weights()
    return student


def _weights(arguments: dict) -> int:
    """How many a VAR has, from those of one block and of two; nothing is allocated."""
    with torch.device("meta"):
        one, two = (VAR(**arguments | {"depth": depth}).parameters() for depth in (1, 2))
    first, both = (sum(parameter.numel() for parameter in parameters) for parameters in (one, two))
    return first + (arguments["depth"] - 1) * (both - first)


def _check_memory(weights: int) -> None:
    if torch.cuda.is_available():
        have, where = torch.cuda.get_device_properties(0).total_memory, "the GPU"
    else:
        have, where = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine"
    if weights * BYTES_PER_WEIGHT > have:
        raise ValueError(
            f"width: training {weights / 1e6:,.0f}M weights takes at least {weights * BYTES_PER_WEIGHT / 1e9:,.1f} GB, "
            f"and {where} has {have / 1e9:,.1f} GB; give a smaller --depth or --width"
        )
