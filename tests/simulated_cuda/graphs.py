"""Graphs of a simulated device: a capture records operations and the memory that they touch, a replay runs them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import _disable_current_modes

POISON = 0xFF  # makes floats NaN and indices -1


class Address(NamedTuple):
    """A tensor that a graph did not make itself: it knows where it was, and does not keep it alive."""

    storage: int
    offset: int
    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype


class Step(NamedTuple):
    """A recorded operation."""

    function: Callable
    launches: bool
    args: Any
    kwargs: Any
    result: Any


class Recorder:
    """The operations of one graph.

    Args:
        device: number of the device whose stream is captured.
    """

    def __init__(self, device: int) -> None:
        self.device = device
        self.steps: list[Step] = []
        self.outside: dict[int, torch.Tensor] = {}
        self.made: dict[int, torch.Tensor] = {}

    def add(self, function: Callable, launches: bool, args: Any, kwargs: Any, result: Any) -> None:
        for tensor in tensors_in((args, kwargs)):
            if _storage(tensor) not in self.made:
                self.outside.setdefault(_storage(tensor), tensor)
        for tensor in tensors_in(result):
            if _storage(tensor) not in self.outside:
                self.made.setdefault(_storage(tensor), tensor)
        self.steps.append(Step(function, launches, args, kwargs, result))

    @property
    def launches(self) -> int:
        return sum(step.launches for step in self.steps)

    def finish(self) -> Recording:
        """From here on memory from outside is known by its address alone."""
        weak = {key: StorageWeakRef(tensor.untyped_storage()) for key, tensor in self.outside.items()}

        def address(tensor: torch.Tensor) -> torch.Tensor | Address:
            key = _storage(tensor)
            if key not in weak:
                return tensor
            return Address(key, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)

        steps = [Step(step.function, step.launches, *mapped(address, torch.Tensor, step[2:])) for step in self.steps]
        return Recording(steps, weak, list(self.made.values()))


class Recording:
    """A captured graph.

    Args:
        steps: in order.
        outside: memory that it does not own, by address.
        made: memory of its pool. Another graph of the pool may use it too, so nothing in it outlives a replay.
    """

    def __init__(self, steps: list[Step], outside: dict[int, StorageWeakRef], made: list[torch.Tensor]) -> None:
        self.steps, self.outside, self.made = steps, outside, made

    def replay(self) -> None:
        with torch.inference_mode(), _disable_current_modes():
            for step in self.steps:
                args, kwargs = mapped(self._resolve, Address, (step.args, step.kwargs))
                result = step.function(*args, **kwargs)
                if step.launches:
                    for old, new in zip(tensors_in(step.result), tensors_in(result)):
                        if old.data_ptr() != new.data_ptr():
                            old.copy_(new)
            for tensor in self.made:
                whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
                whole.fill_(POISON)

    def _resolve(self, address: Address) -> torch.Tensor:
        reference = self.outside[address.storage]
        if reference.expired():
            raise RuntimeError("a CUDA graph reads memory that was freed")
        storage = torch.UntypedStorage._new_with_weak_ptr(reference.cdata)
        return torch.empty(0, dtype=address.dtype).set_(storage, address.offset, address.shape, address.strides)


class CudaGraph:
    """Stands in for torch.cuda.CUDAGraph."""

    pools = itertools.count(1)

    def __init__(self, simulation) -> None:
        self.simulation = simulation
        self._pool: tuple[int, int] | None = None
        self._recording: Recording | None = None

    def capture_begin(
        self,
        pool: tuple[int, int] | None = None,
        capture_error_mode: str = "global",
        check_input_liveness: bool = False,  # always checked here
    ) -> None:
        simulation = self.simulation
        if simulation.recording is not None:
            raise RuntimeError("CUDA error: another capture is under way")
        if simulation.current not in simulation.streams:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream")
        if capture_error_mode != "thread_local":
            simulation.faults.append(f"a capture in the mode {capture_error_mode}: any thread may break it")
        simulation.note("checked capture" if check_input_liveness else "capture", f"cuda:{simulation.current}")
        simulation.recording = Recorder(simulation.current)
        self._pool = pool or (0, next(self.pools))

    def capture_end(self) -> None:
        recorder, self.simulation.recording = self.simulation.recording, None
        if recorder.device != self.simulation.current:
            raise RuntimeError("Capture must end on the same stream it began on.")
        if not recorder.launches:
            self.simulation.faults.append(f"an empty graph on cuda:{recorder.device}")
        self._recording = recorder.finish()

    def pool(self) -> tuple[int, int]:
        return self._pool

    def replay(self) -> None:
        self.simulation.note("replay", "graph")
        self._recording.replay()


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def tensors_in(values: Any) -> list[torch.Tensor]:
    """All tensors in nested arguments of an operation."""
    if isinstance(values, torch.Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [tensor for value in values for tensor in tensors_in(value)]


def mapped(function: Callable, kind: type, values: Any) -> Any:
    """The same nested arguments with ``function`` of those of a kind in their place."""
    if isinstance(values, kind):
        return function(values)
    if isinstance(values, dict):
        return {name: mapped(function, kind, value) for name, value in values.items()}
    if type(values) in (list, tuple):
        return type(values)(mapped(function, kind, value) for value in values)
    if isinstance(values, tuple) and hasattr(values, "_fields"):  # a NamedTuple
        return type(values)(*(mapped(function, kind, value) for value in values))
    return values
