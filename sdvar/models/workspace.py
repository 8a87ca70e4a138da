"""What one decode with one model works in: the cache, the conditioning, and the choice of rows for each pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sdvar.models.protocol import Cache, Conditioning, NextScaleModel
from sdvar.rows import to_device


class EagerWorkspace:
    """Runs spans of scales for some images of a batch, operation by operation.

    Args:
        model: the model.
        images: B.
        guided: whether a null branch runs beside the class branch; it takes the rows B .. 2B - 1.
        spare_rows: rows of the cache after those of the images.

    Attributes:
        conditioning: of all rows, see `begin`.
        cache: of all rows; ``whole`` is the part of it that a pass of all images uses.
    """

    def __init__(self, model: NextScaleModel, images: int, guided: bool, spare_rows: int = 0) -> None:
        self.model, self.images, self.guided = model, images, guided
        self.device, self.dtype = model.device, model.dtype
        self.conditioning: Conditioning | None = None
        self.cache: Cache = model.new_cache(self.rows + spare_rows)
        self.whole = self.cache.head(self.rows)

    @property
    def rows(self) -> int:
        """Rows of the batch, guidance branches counted."""
        return self.images * (2 if self.guided else 1)

    def fits(self, images: int, guided: bool) -> bool:
        """Whether it may serve another decode, of a model that has not been moved or converted since."""
        same_model = (self.model.device, self.model.dtype) == (self.device, self.dtype)
        return same_model and (images, guided) == (self.images, self.guided)

    def begin(self, labels: Tensor) -> None:
        """Start a decode of B images with labels int64 (B,)."""
        if self.guided:
            labels = torch.cat((labels, torch.full_like(labels, self.model.num_classes)))
        self.conditioning = self.model.condition(labels)

    def run(
        self, images: Sequence[int], inputs: Tensor, first: int, last: int, visible_from: int, logits_from: int
    ) -> Tensor:
        """Logits of both guidance branches for some images, see `sdvar.models.protocol.Workspace`."""
        cache, rows, conditioning = self.whole, None, self._begun
        if len(images) < self.images:
            cache, rows = self.cache, self._rows_of(images, inputs.device)
            conditioning = conditioning.rows(rows)
        if self.guided:
            inputs = torch.cat((inputs, inputs))
        return self.model.forward_span(conditioning, inputs, first, last, cache, rows, visible_from, logits_from)

    @property
    def _begun(self) -> Conditioning:
        if self.conditioning is None:
            raise RuntimeError("a pass before `begin`")
        return self.conditioning

    def _rows_of(self, images: Sequence[int], device: torch.device) -> Tensor:
        rows = to_device(images, device)
        return torch.cat((rows, rows + self.images)) if self.guided else rows
