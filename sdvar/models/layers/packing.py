"""Layers that keep a second copy of their weights in the order in which oneDNN, on a CPU, multiplies by them."""

from __future__ import annotations

from torch import Tensor, nn

from sdvar.models.layers.changes import Sample
from sdvar.models.protocol import NextScaleModel


class Packed(nn.Module):
    """A layer that keeps such a copy, else oneDNN reorders the weights in every call.

    The copy is made in the first call and again when the weights have changed: torch counts most changes, `Sample` sees
    the others, and for those of a few numbers there is `refresh`.
    """

    weight: Tensor
    _copy: tuple[tuple[int, int], Sample, Tensor] | None = None  # address and version of the weights, ..., their copy

    @property
    def copies(self) -> bool:
        """Whether a copy is made when the layer is first called."""
        raise NotImplementedError

    def _reordered(self) -> Tensor:
        raise NotImplementedError

    def _packed(self) -> Tensor:
        """The copy, made now if there is none of these weights."""
        weight = self.weight
        state = weight.data_ptr(), 0 if weight.is_inference() else weight._version
        if self._copy is None or self._copy[0] != state or self._copy[1].changed():
            self._copy = None  # before a new one is made, so that two never exist side by side
            self._copy = state, Sample((weight,)), self._reordered()
        return self._copy[2]

    @property
    def copy_bytes(self) -> int:
        """Bytes of the copy; 0 as long as there is none."""
        return self.weight.nbytes if self._copy else 0

    def _apply(self, *arguments, **keywords):  # moves and converts the weights
        self._copy = None
        return super()._apply(*arguments, **keywords)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_copy": None}  # it can be neither pickled nor copied


def refresh(model: nn.Module) -> None:
    """Drop the copies of a model's weights, and its class prefixes, after a change that nothing sees.

    Such a change is of a few numbers, or on another device than a CPU, and of an inference tensor, through
    ``weight.data`` or through a NumPy view. All others are seen.
    """
    for layer in model.modules():
        if isinstance(layer, Packed):
            layer._copy = None
    if isinstance(model, NextScaleModel):
        model.prefixes.clear()
