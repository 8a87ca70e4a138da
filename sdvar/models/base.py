"""What every next-scale model can take as it is: keeping a workspace, no choice of kernels, no compiler."""

from __future__ import annotations

from typing import Any, cast

import torch

from sdvar.models.cuda_graphs import GraphedWorkspace
from sdvar.models.protocol import NextScaleModel, PassCosts
from sdvar.models.workspace import EagerWorkspace


class NextScaleBase:
    """Members of `NextScaleModel` with a default. A model derives from this, after nn.Module if it is one.

    Attributes:
        graphs: whether passes are captured as CUDA graphs and replayed.
        capture_seconds: time spent on capturing so far.
    """

    graphs: bool = False
    capture_seconds: float = 0.0
    _spare: EagerWorkspace | None = None

    def workspace(self, images: int, guided: bool) -> EagerWorkspace:
        """What a decode works in: the workspace that was handed back last, if it fits."""
        spare, self._spare = self._spare, None
        kind = GraphedWorkspace if self.graphs else EagerWorkspace
        if type(spare) is kind and spare.fits(images, guided):
            return spare
        del spare  # before a new one is made, so that two never exist side by side
        return kind(cast(NextScaleModel, self), images, guided)

    def hand_back(self, workspace: EagerWorkspace) -> None:
        """Keep a workspace that is no longer used for the next decode; one is kept.

        On a CPU none is: a new cache costs nothing there, and the tokenizer needs the memory next.
        """
        self._spare = workspace if self.graphs or workspace.device.type != "cpu" else None

    def release(self) -> None:
        """Free the memory that is kept for the next decode."""
        self._spare = None

    def check_attention(self, kernel: str, device: torch.device) -> None:
        """Raise ValueError for anything but "auto": the model has one kernel."""
        if kernel != "auto":
            raise ValueError(f"attention: expected auto with {type(self).__name__}, got {kernel!r}")

    def set_attention(self, kernel: str) -> Any:
        """Raise ValueError for anything but "auto": the model has one kernel."""
        self.check_attention(kernel, torch.device("cpu"))

    def compile_blocks(self) -> Any:
        """Nothing: the model runs without torch.compile."""

    def cost(self) -> PassCosts:
        """Raises NotImplementedError: the passes of this model have no known cost."""
        raise NotImplementedError(f"{type(self).__name__} has no cost(): rooflines and memory estimates need it")

    def weight_bytes(self) -> int:
        """0: the model has no weights."""
        return 0

    def pending_bytes(self) -> int:
        """0: the model makes no copies of weights."""
        return 0
