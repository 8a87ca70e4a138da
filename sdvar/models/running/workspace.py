"""What one decode with one model works in: the cache, the conditioning, and the choice of rows for each pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sdvar.models.protocol import Cache, Conditioning, NextScaleModel, Span
from sdvar.rows import to_device


class EagerWorkspace:
    """Runs spans of scales for some images of a batch, operation by operation.

    Args:
        model: the model.
        images: B.
        guided: whether a null branch may run beside the class branch; it takes the rows B .. 2B - 1.
        cache: of `cache_rows` rows.

    Attributes:
        spare_rows: rows of the cache after those of the images.
        conditioning: of all rows, see `begin`.
        cache: of all rows.
    """

    spare_rows = 0

    def __init__(self, model: NextScaleModel, images: int, guided: bool, cache: Cache) -> None:
        self.model, self.images, self.guided, self.cache = model, images, guided, cache
        self.device = model.device
        self.conditioning: Conditioning = None  # until `begin`

    @classmethod
    def cache_rows(cls, images: int, guided: bool) -> int:
        """Rows of the cache that a workspace needs."""
        return images * branches(guided) + cls.spare_rows

    @property
    def rows(self) -> int:
        """Rows of the batch, guidance branches counted."""
        return self.images * branches(self.guided)

    def begin(self, classes: Sequence[int]) -> Tensor:
        """Start a decode of B images of these classes, see `sdvar.models.protocol.Workspace`."""
        nulls = [self.model.num_classes] * len(classes) if self.guided else []
        prefix, rows = self.model.prefixes.rows([*classes, *nulls])
        logits = prefix.logits.index_select(0, rows)
        self._condition(prefix.conditioning, rows)
        self.cache.head(self.rows).copy(slice(None), prefix.cache, rows, positions=logits.shape[1])
        return logits

    def _condition(self, conditioning: Conditioning, rows: Tensor) -> None:
        self.conditioning = selected(conditioning, rows)

    def run(self, images: Sequence[int], inputs: Tensor, span: Span, null: bool) -> Tensor:
        """Logits of one guidance branch or both for some images, see `sdvar.models.protocol.Workspace`."""
        if len(images) < self.images:
            rows = self._rows_of(images, inputs.device, null)
            cache, conditioning = self.cache, selected(self._begun, rows)
        else:
            rows, (cache, conditioning) = None, self._all_images(null)
        if null:
            inputs = torch.cat((inputs, inputs))
        first, last, visible_from, logits_from = span
        return self.model.forward_span(conditioning, inputs, first, last, cache, rows, visible_from, logits_from)

    def _all_images(self, null: bool) -> tuple[Cache, Conditioning]:
        """Cache and conditioning of a pass of all images: the first rows, in the same memory."""
        rows = self.images * branches(null)
        return self.cache.head(rows), type(self._begun)(*(values[:rows] for values in self._begun))

    @property
    def _begun(self) -> Conditioning:
        if self.conditioning is None:
            raise RuntimeError("a pass before `begin`")
        return self.conditioning

    def _rows_of(self, images: Sequence[int], device: torch.device, null: bool) -> Tensor:
        rows = to_device(images, device)
        return torch.cat((rows, rows + self.images)) if null else rows


def branches(null: bool) -> int:
    """Rows of an image, with the null branch or without."""
    return 2 if null else 1


def selected(conditioning: Conditioning, rows: Tensor) -> Conditioning:
    """Rows of a conditioning, int64 (m,)."""
    return type(conditioning)(*(values.index_select(0, rows) for values in conditioning))
