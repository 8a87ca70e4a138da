"""What stands in for torch.cuda, pinned memory and fused attention on a simulated device."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import _disable_current_modes

from tests.simulated_cuda.graphs import CudaGraph

if TYPE_CHECKING:
    from tests.simulated_cuda.device import SimulatedCuda

FREE, TOTAL = 70 << 30, 80 << 30  # bytes
PROPERTIES = SimpleNamespace(name="simulated", major=9, minor=0, total_memory=TOTAL, multi_processor_count=132)


class Stream:
    """Stands in for torch.cuda.Stream. All streams run in the order in which the host gives them work."""

    def __init__(self, simulation: SimulatedCuda, device: Any = None, priority: int = 0) -> None:
        self.simulation = simulation
        self.device_index = simulation.index(device)
        simulation.contexts.add(self.device_index)

    def wait_stream(self, other: Stream) -> None:
        if other.device_index != self.device_index:
            self.simulation.faults.append("a stream waits for one of another device")

    def synchronize(self) -> None:
        self.simulation.wait("stream")


class CudaEvent:
    """Stands in for torch.cuda.Event."""

    ticks = itertools.count()

    def __init__(self, simulation: SimulatedCuda, enable_timing: bool = False) -> None:
        self.simulation = simulation

    def record(self, stream: Stream | None = None) -> None:
        if self.simulation.recording is not None:
            raise RuntimeError("CUDA error: an event of a capture cannot be read")
        self.tick = next(self.ticks)

    def elapsed_time(self, end: CudaEvent) -> float:
        return float(end.tick - self.tick)


def stand_ins(simulation: SimulatedCuda) -> list[tuple[Any, str, Any]]:
    """(owner, name, value) of all that is replaced."""

    def touched(value: Any) -> Callable[..., Any]:
        def function(device: Any = None, **options: Any) -> Any:
            simulation.contexts.add(simulation.index(device))
            return value

        return function

    def synchronize(device: Any = None) -> None:
        simulation.contexts.add(simulation.index(device))
        simulation.wait("synchronize")

    @contextmanager
    def on_device(device: Any) -> Iterator[None]:
        before, simulation.current = simulation.current, simulation.index(device)
        try:
            yield
        finally:
            simulation.current = before

    @contextmanager
    def on_stream(stream: Stream) -> Iterator[None]:
        with on_device(stream.device_index):
            before = simulation.streams.get(stream.device_index)
            simulation.streams[stream.device_index] = stream
            try:
                yield
            finally:
                if before is None:
                    del simulation.streams[stream.device_index]
                else:
                    simulation.streams[stream.device_index] = before

    def current_stream(device: Any = None) -> Stream:
        number = simulation.index(device)
        return simulation.streams.get(number) or Stream(simulation, number)

    def pin_memory(tensor: torch.Tensor, device: Any = None) -> torch.Tensor:
        if tensor.is_cuda:
            raise RuntimeError("cannot pin 'cuda' memory")
        simulation.allocate_pinned()
        pinned = tensor.clone()
        pinned.pinned = True
        return pinned

    def set_device(device: Any) -> None:
        simulation.current = simulation.index(device)

    cuda = torch.cuda
    return [
        (cuda, "_lazy_init", lambda: None),
        (cuda, "is_available", lambda: True),
        (cuda, "device_count", lambda: simulation.devices),
        (cuda, "current_device", lambda: simulation.current),
        (cuda, "set_device", set_device),
        (cuda, "device", on_device),
        (cuda, "stream", on_stream),
        (cuda, "current_stream", current_stream),
        (cuda, "synchronize", synchronize),
        (cuda, "empty_cache", lambda: simulation.note("memory", "the allocator's caches are emptied")),
        (cuda, "Stream", functools.partial(Stream, simulation)),
        (cuda, "Event", functools.partial(CudaEvent, simulation)),
        (cuda, "CUDAGraph", functools.partial(CudaGraph, simulation)),
        (cuda, "mem_get_info", touched((FREE, TOTAL))),
        (cuda, "memory_allocated", touched(0)),
        (cuda, "max_memory_allocated", touched(0)),
        (cuda, "memory_reserved", touched(0)),
        (cuda, "reset_peak_memory_stats", touched(None)),
        (cuda, "get_device_name", touched("simulated")),
        (cuda, "get_device_properties", touched(PROPERTIES)),
        (torch.Tensor, "pin_memory", pin_memory),
        (F, "scaled_dot_product_attention", _attention(simulation)),
    ]


def _attention(simulation: SimulatedCuda) -> Callable[..., torch.Tensor]:
    """Fused attention, one launch; as an operation it would be taken apart for the CPU."""
    real = F.scaled_dot_product_attention

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> torch.Tensor:
        if not query.is_cuda:
            return real(query, key, value, **options)
        mask = options.pop("attn_mask", None)
        devices = {tensor.device for tensor in (query, key, value, mask) if tensor is not None}
        if len(devices) > 1:
            raise RuntimeError(f"attention: expected one device, got {devices}")
        held = [None if tensor is None else tensor.held for tensor in (query, key, value, mask)]
        function = functools.partial(real, **options)
        with _disable_current_modes():
            result = function(*held)
            result = result.transpose(1, 2).contiguous().transpose(1, 2)  # heads side by side, as a GPU leaves them
        simulation.launch("attention", query.device, function, held, {}, result)
        return type(query)(result, query.device)

    return attention
