"""What every next-scale model can take as it is: keeping workspaces, no choice of kernels."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import ModuleType
from typing import Any, cast

import torch

from sdvar.models.protocol import NextScaleModel, PassCosts
from sdvar.models.running.class_prefix import ClassPrefixes
from sdvar.models.running.cuda_graphs import GraphedWorkspace
from sdvar.models.running.kept import KeptWorkspaces
from sdvar.models.running.workspace import EagerWorkspace
from sdvar.sampling import Sampling


class NextScaleBase:
    """Members of `NextScaleModel` with a default. A model derives from this, after nn.Module if it is one.

    Attributes:
        graphs: whether passes are captured as CUDA graphs and replayed.
        capture_seconds: time spent on capturing so far.
        guidance_inside: the guidance that it was distilled to give by itself; None where it has none inside.
        rounded_to: the kind of weights that it was distilled for, see `sdvar.models.quantized.WEIGHT_KINDS`, to which
            the matrices of its blocks are rounded when its file is loaded; None where there is no such kind.
    """

    graphs: bool = False
    capture_seconds: float = 0.0
    guidance_inside: Sampling | None = None
    rounded_to: str | None = None
    _kept: KeptWorkspaces | None = None
    _prefixes: ClassPrefixes | None = None

    @property
    def prefixes(self) -> ClassPrefixes:
        """The class prefixes that are kept."""
        if self._prefixes is None:
            self._prefixes = ClassPrefixes(cast(NextScaleModel, self))
        return self._prefixes

    def guided_scales(self, sampling: Sampling) -> int:
        """As `Sampling.guided_scales`; 0 with guidance inside: no pass of the model runs a null branch."""
        return 0 if self.guidance_inside else sampling.guided_scales(len(cast(NextScaleModel, self).pyramid))

    def workspace(self, images: int, guided: bool) -> EagerWorkspace:
        """What a decode works in: on a GPU one that was handed back before, if there is one that fits.

        On a CPU none is kept: a new cache costs nothing there, and the tokenizer needs the memory next.
        """
        model, kind = cast(NextScaleModel, self), GraphedWorkspace if self.graphs else EagerWorkspace
        if model.device.type == "cpu":
            return EagerWorkspace(model, images, guided, model.new_cache(kind.cache_rows(images, guided)))
        state = self.graph_state()
        if self._kept is None or self._kept.state != state:
            self._kept = None  # before a new one is made, so that two never exist side by side
            self._kept = KeptWorkspaces(model, state)
        return self._kept.take(kind, images, guided)

    def graph_state(self) -> Hashable:
        """Changes with what a captured pass depends on, the weights' numbers aside: their memory, the kernels."""
        model = cast(NextScaleModel, self)
        return model.device, model.dtype

    def block_kernels(self, device: torch.device) -> ModuleType | None:
        """The kernels of the project's own by which its blocks run on a device; None: torch's operations."""
        return None

    def head_kernel(self, device: torch.device) -> Callable[..., Any] | None:
        """The kernel of the project's own by which the head multiplies on a device; None: torch's product."""
        return None

    def hand_back(self, workspace: EagerWorkspace) -> None:
        """Take back a workspace that is no longer used."""
        if self._kept is not None:
            self._kept.give(workspace)

    def release(self) -> None:
        """Free what is kept for later decodes."""
        self._kept = None
        self.prefixes.clear()

    def check_attention(self, kernel: str, device: torch.device) -> None:
        """Raise ValueError for anything but "auto": the model has one kernel."""
        if kernel != "auto":
            raise ValueError(f"attention: expected auto with {type(self).__name__}, got {kernel!r}")

    def set_attention(self, kernel: str) -> Any:
        """Raise ValueError for anything but "auto": the model has one kernel."""
        self.check_attention(kernel, torch.device("cpu"))

    def cost(self) -> PassCosts:
        """Raises NotImplementedError: the passes of this model have no known cost."""
        raise NotImplementedError(f"{type(self).__name__} has no cost(): rooflines and memory estimates need it")

    def weight_bytes(self) -> int:
        """0: the model has no weights."""
        return 0

    def pending_bytes(self) -> int:
        """0: the model makes no copies of weights."""
        return 0
