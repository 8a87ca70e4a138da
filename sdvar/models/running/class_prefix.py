"""The class prefix: what a model makes of a class before any token. It is computed once per class and kept.

The first scale of a VAR has no input but the class. So its logits, its keys and values, and what AdaLN makes of the
class are constants of weights and class; decoding starts at the second scale with a cache that is filled this far.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from sdvar.models.layers.changes import Sample
from sdvar.models.protocol import Cache, Conditioning
from sdvar.rows import to_device

if TYPE_CHECKING:
    from sdvar.models.protocol import NextScaleModel

MOST_BYTES = 2 << 30  # kept per model, unless told otherwise; VAR-d30 takes 1.0 MB per class in bfloat16
TOGETHER = 64  # classes computed in one pass
PLAIN = (Tensor, nn.Parameter)  # of other classes not all tensors have an address


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
        seconds: spent on those made ready; others are part of the decode that asked for them.
    """

    def __init__(self, model: NextScaleModel, most_bytes: int = MOST_BYTES) -> None:
        self.model, self.most_bytes = model, most_bytes
        self.computed, self.seconds = 0, 0.0
        self.clear()

    def __getstate__(self) -> dict:
        """Copies of a model and models sent to other processes compute their own."""
        return {"model": self.model, "most_bytes": self.most_bytes}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return 0 if self._kept is None else self._kept.nbytes()

    def clear(self) -> None:
        """Forget all classes: what they depend on has changed."""
        self._state: tuple = ()
        self._sample = Sample(())  # whose views would keep weights alive that are moved or converted now
        self._slots: OrderedDict[int, int] = OrderedDict()  # class -> row, the one used last at the end
        self._kept: ClassPrefix | None = None
        self._one: ClassPrefix | None = None  # of some class, for the sizes

    def ready(self, classes: Iterable[int]) -> None:
        """Compute and keep the prefixes of classes, as many as may be kept, so that no decode has to. Waits for it."""
        distinct = list(dict.fromkeys(classes))[: self._capacity()]
        if any(label not in self._slots for label in distinct):
            started = self._now()
            self.rows(distinct)
            self.seconds += self._now() - started

    def rows(self, classes: Sequence[int]) -> tuple[ClassPrefix, Tensor]:
        """Prefixes in which each of n classes has a row, and these rows, int64 (n,) on the model's device."""
        distinct, capacity = list(dict.fromkeys(classes)), self._capacity()
        if len(distinct) > capacity:  # kept for this decode alone
            slots = {label: row for row, label in enumerate(distinct)}
            prefix = self._empty(len(slots))
            self._compute(prefix, slots)
        else:
            prefix, slots = self._keep(distinct, capacity), self._slots
        return prefix, to_device([slots[label] for label in classes], self.model.device)

    @torch.no_grad()
    def _capacity(self) -> int:
        """Classes that may be kept, of the weights as they are now."""
        state = _state(self.model)
        if state != self._state or self._sample.changed():
            self.clear()
            self._state = state
            if isinstance(self.model, nn.Module):
                self._sample = Sample((*self.model.parameters(), *self.model.buffers()))
        if self._one is None:
            self._one = self._pass([0])
        return self.most_bytes // self._one.nbytes()

    def _keep(self, classes: Sequence[int], capacity: int) -> ClassPrefix:
        """Compute those that are missing, in the place of the ones used longest ago."""
        for label in classes:
            if label in self._slots:
                self._slots.move_to_end(label)
        missing = [label for label in classes if label not in self._slots]
        while len(self._slots) + len(missing) > capacity:
            self._slots.popitem(last=False)
        kept = self._kept = self._with_room(len(self._slots) + len(missing), capacity)
        if missing:
            free = sorted(set(range(len(kept.logits))) - set(self._slots.values()))
            new = dict(zip(missing, free))
            self._compute(kept, new)
            self._slots.update(new)
        return kept

    def _with_room(self, rows: int, capacity: int) -> ClassPrefix:
        """What is kept, with room for so many classes. It at least doubles, since growing copies all."""
        kept, have = self._kept, 0 if self._kept is None else len(self._kept.logits)
        if kept is not None and rows <= have:
            return kept
        grown = self._empty(min(capacity, max(rows, 2 * have)))
        if kept is not None:
            _write(grown, torch.arange(have, device=self.model.device), kept)
        return grown

    def _empty(self, rows: int) -> ClassPrefix:
        assert self._one is not None
        conditioning, _, logits = self._one

        def empty(values: Tensor) -> Tensor:
            return values.new_empty(rows, *values.shape[1:])

        with torch.inference_mode(False):  # kept for decodes in every mode
            return ClassPrefix(
                type(conditioning)(*map(empty, conditioning)), self.model.new_cache(rows, scales=1), empty(logits)
            )

    @torch.no_grad()
    def _compute(self, into: ClassPrefix, slots: Mapping[int, int]) -> None:
        """Compute classes into their rows."""
        classes = list(slots)
        for begin in range(0, len(classes), TOGETHER):
            labels = classes[begin : begin + TOGETHER]
            _write(into, to_device([slots[label] for label in labels], self.model.device), self._pass(labels))
        self.computed += len(classes)

    def _now(self) -> float:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        return time.perf_counter()

    def _pass(self, classes: Sequence[int]) -> ClassPrefix:
        """The first pass of a decode, of each class."""
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

    Those are what `Sample` is for. Every decode asks, so it is written to be fast.
    """
    marks: list[int] = []
    if isinstance(model, nn.Module):
        _mark(model, marks)
    return model.graph_state(), *marks


def _mark(module: nn.Module, marks: list[int]) -> None:
    for values in (*module._parameters.values(), *module._buffers.values()):
        if values is not None:
            marks.append(id(values))
            if type(values) in PLAIN:
                marks.append(values.data_ptr())
            if not values.is_inference():
                marks.append(values._version)
    for child in module._modules.values():
        if child is not None:
            _mark(child, marks)
