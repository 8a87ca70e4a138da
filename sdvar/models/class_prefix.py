"""The class prefix: what a model makes of a class before any token. It is computed once per class and kept.

The first scale of a VAR has no input but the class. So its logits, its keys and values, and what AdaLN makes of the
class are constants of weights and class; decoding starts at the second scale with a cache that is filled this far.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from sdvar.models.protocol import Cache, Conditioning
from sdvar.rows import to_device

if TYPE_CHECKING:
    from sdvar.models.protocol import NextScaleModel

MOST_BYTES = 2 << 30  # kept per model, unless told otherwise; VAR-d30 takes 1.6 MB per class
TOGETHER = 64  # classes computed in one pass


class ClassPrefix(NamedTuple):
    """Of m classes, one a row.

    Attributes:
        conditioning: what later passes need of the class.
        cache: with the keys and values of scale 0.
        logits: (m, n_0, V) of scale 0.
    """

    conditioning: Conditioning
    cache: Cache
    logits: Tensor

    def nbytes(self) -> int:
        return self.cache.nbytes + sum(values.nbytes for values in (*self.conditioning, self.logits))


class ClassPrefixes:
    """The class prefixes that a model keeps, those used last where they are too many.

    Args:
        model: the model.
        most_bytes: to keep; 0 keeps none, then each decode computes its own.

    Attributes:
        computed: classes computed so far; a class that was dropped and asked for again counts again.
        seconds: spent on that.
    """

    def __init__(self, model: NextScaleModel, most_bytes: int = MOST_BYTES) -> None:
        self.model, self.most_bytes = model, most_bytes
        self.computed, self.seconds = 0, 0.0
        self._slots: OrderedDict[int, int] = OrderedDict()  # class -> row, the one used last at the end
        self._kept: ClassPrefix | None = None
        self._bytes_each = 0  # unknown
        self._weights: tuple = ()

    def __getstate__(self) -> dict:
        """Copies of a model and models sent to other processes compute their own."""
        return {**self.__dict__, "_slots": OrderedDict(), "_kept": None, "_weights": ()}

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return 0 if self._kept is None else self._kept.nbytes()

    def clear(self) -> None:
        """Forget all classes: what they depend on has changed."""
        self._slots, self._kept = OrderedDict(), None

    def ready(self, classes: Iterable[int]) -> int:
        """Compute and keep the prefixes of classes, as many as may be kept.

        Returns:
            How many classes were computed now.
        """
        before, distinct = self.computed, list(dict.fromkeys(classes))
        self.rows(distinct[: self._capacity])
        return self.computed - before

    @torch.no_grad()
    def rows(self, classes: Sequence[int]) -> tuple[ClassPrefix, Tensor]:
        """Prefixes in which each class has a row, and these rows, int64 (n,) on the model's device."""
        weights = _state(self.model)
        if weights != self._weights:
            self.clear()
            self._weights = weights
        distinct, started = list(dict.fromkeys(classes)), time.perf_counter()
        if len(distinct) > self._capacity:
            prefix, slots = self._compute(distinct), {label: row for row, label in enumerate(distinct)}
        else:
            missing = [label for label in distinct if label not in self._slots]
            prefix, slots = self._keep(missing, distinct), self._slots
            for label in distinct:
                self._slots.move_to_end(label)
        self.seconds += time.perf_counter() - started
        return prefix, to_device([slots[label] for label in classes], self.model.device)

    @property
    def _capacity(self) -> int:
        """Classes that may be kept."""
        if not self._bytes_each:
            self._bytes_each = self._pass([0]).nbytes()
        return self.most_bytes // self._bytes_each

    def _keep(self, missing: Sequence[int], needed: Sequence[int]) -> ClassPrefix:
        """Compute classes and keep them, in the place of those used longest ago, but for the ``needed`` ones."""
        if self._kept is not None and not missing:
            return self._kept
        computed = self._compute(missing)
        droppable = [label for label in self._slots if label not in set(needed)]
        for label in droppable[: max(0, len(self._slots) + len(missing) - self._capacity)]:
            del self._slots[label]
        kept = self._kept = self._with_room(len(self._slots) + len(missing), computed)
        free = sorted(set(range(len(kept.logits))) - set(self._slots.values()))[: len(missing)]
        _write(kept, to_device(free, self.model.device), computed)
        self._slots.update(zip(missing, free))
        return kept

    def _with_room(self, rows: int, like: ClassPrefix) -> ClassPrefix:
        """What is kept, with room for so many classes. It grows to double its size: growing copies all."""
        kept, have = self._kept, 0 if self._kept is None else len(self._kept.logits)
        if kept is not None and rows <= have:
            return kept
        grown = self._empty(like, min(self._capacity, max(rows, 2 * have)))
        if kept is not None:
            _write(grown, torch.arange(have, device=self.model.device), kept)
        return grown

    def _empty(self, like: ClassPrefix, rows: int) -> ClassPrefix:
        def empty(values: Tensor) -> Tensor:
            return values.new_empty(rows, *values.shape[1:])

        with torch.inference_mode(False):  # kept for decodes in every mode
            conditioning = type(like.conditioning)(*map(empty, like.conditioning))
            return ClassPrefix(conditioning, self.model.new_cache(rows, scales=1), empty(like.logits))

    def _compute(self, classes: Sequence[int]) -> ClassPrefix:
        """The prefixes of classes, in that order."""
        self.computed += len(classes)
        parts = [self._pass(classes[begin : begin + TOGETHER]) for begin in range(0, len(classes), TOGETHER)]
        if len(parts) == 1:
            return parts[0]
        whole = self._empty(parts[0], len(classes))
        for number, part in enumerate(parts):
            rows = torch.arange(len(part.logits), device=self.model.device) + number * TOGETHER
            _write(whole, rows, part)
        return whole

    def _pass(self, classes: Sequence[int]) -> ClassPrefix:
        model = self.model
        conditioning = model.condition(to_device(classes, model.device))
        cache = model.new_cache(len(classes), scales=1)
        no_inputs = torch.empty(len(classes), 0, model.latent_channels, device=model.device, dtype=model.logits_dtype)
        return ClassPrefix(conditioning, cache, model.forward_span(conditioning, no_inputs, 0, 1, cache))


def _write(prefix: ClassPrefix, rows: Tensor, source: ClassPrefix) -> None:
    for values, new in zip((*prefix.conditioning, prefix.logits), (*source.conditioning, source.logits)):
        values[rows] = new
    positions = source.logits.shape[1]
    prefix.cache.copy(rows, source.cache, torch.arange(len(rows), device=rows.device), positions)


def _state(model: NextScaleModel) -> tuple:
    """Changes with the weights: address and version of each, but for changes that torch does not count.

    Those are the changes under inference mode, through ``weight.data[...]`` and through a NumPy view.
    """
    values = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    return model.graph_state(), *map(_mark, values)


def _mark(values: Tensor) -> tuple[int, int, int]:
    plain = not is_traceable_wrapper_subclass(values)
    return id(values), values.data_ptr() if plain else 0, 0 if values.is_inference() else values._version
