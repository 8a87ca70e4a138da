"""Tensors of a simulated CUDA device, and the mode under which torch makes and computes them."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode

from tests.simulated_cuda.graphs import Recorder, mapped, tensors_in
from tests.simulated_cuda.runtime import stand_ins

# Operations that launch no kernel: views and allocations
VIEWS = frozenset((
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "expand", "lift_fresh", "permute",
    "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze",
    "view",
))  # fmt: skip
NO_LAUNCH = VIEWS | {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "set_", "resize_"}
# What a GPU computes otherwise than a CPU: its GELU is the tanh form
ON_A_GPU = {
    "_addmm_activation": lambda bias, x, weight, use_gelu: F.gelu(torch.addmm(bias, x, weight), approximate="tanh")
}
LAUNCHES = {"constant_pad_nd": 2}  # fills, then copies
PER_IMAGE = frozenset(("im2col",))  # torch launches a kernel for each image
# Their result's shape follows from numbers on the device: the host waits for them
DATA_DEPENDENT = frozenset(("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"))
INDEXING = frozenset(("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"))
# Composite operations that stay whole, since a GPU has a kernel for each
WHOLE = ("upsample_",)


class Event(NamedTuple):
    """Something that costs time on a GPU.

    Attributes:
        kind: "launch", "launch in a graph", "wait", "copy" (host to device, asynchronous), "waiting copy", "capture",
            "checked capture" (whose replays check that what they read is still there),
            "replay" or "memory" (pinned memory is allocated).
        what: the operation.
        where: the line of the project that asked for it.
    """

    kind: str
    what: str
    where: str


class CudaTensor(torch.Tensor):
    """A tensor on a simulated device; ``held`` has its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> CudaTensor:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=device,
        )  # fmt: skip
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        if SimulatedCuda.active is None:
            raise RuntimeError("a tensor of a simulated device was used after the simulation")
        return SimulatedCuda.active.run(operation, args, kwargs or {})

    def __repr__(self) -> str:
        return f"CudaTensor({tuple(self.shape)}, {self.dtype}, {self.device})"

    def tolist(self):
        return self.cpu().tolist()

    def data_ptr(self) -> int:
        return self.held.data_ptr()


class SimulatedCuda(TorchDispatchMode):
    """Within its block torch has simulated CUDA devices.

    Args:
        devices: how many.

    Attributes:
        events: what has cost time so far.
        contexts: devices that were used.
        faults: what CUDA would do wrongly without saying so.
        current, streams: the current device, and the current stream of each device where it is not the default one.
        recording: the graph that is being captured.
    """

    active: SimulatedCuda | None = None

    def __init__(self, devices: int = 2) -> None:
        super().__init__()
        self.devices = devices
        self.events: list[Event] = []
        self.contexts: set[int] = set()
        self.faults: list[str] = []
        self.current = 0
        self.streams: dict[int, object] = {}
        self.recording: Recorder | None = None

    def count(self, *kinds: str) -> int:
        """Events of some kinds."""
        return sum(event.kind in kinds for event in self.events)

    def places(self, *kinds: str) -> Counter[tuple[str, str]]:
        """Where events of some kinds come from: (line, operation) and how often."""
        return Counter((event.where, event.what) for event in self.events if event.kind in kinds)

    def note(self, kind: str, what: str) -> None:
        self.events.append(Event(kind, what, _line_of_project()))

    def wait(self, what: str, kind: str = "wait") -> None:
        """The host waits for the device, which no capture allows."""
        self._outside_of_captures(what)
        self.note(kind, what)

    def allocate_pinned(self) -> None:
        self._outside_of_captures("cudaHostAlloc")
        if not self.contexts:
            self.contexts.add(self.current)
        self.note("memory", "pinned")

    def _outside_of_captures(self, what: str) -> None:
        if self.recording is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {what}")

    def index(self, device: int | str | torch.device | None) -> int:
        """Number of a device; the current one where it has none."""
        if isinstance(device, int):
            return device
        number = None if device is None else torch.device(device).index
        return self.current if number is None else number

    def __enter__(self) -> SimulatedCuda:
        self._stack = ExitStack()
        torch._C._ensureCUDADeviceGuardSet()  # makes a CPU build accept the device's name
        self._stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        for owner, name, value in stand_ins(self):
            self._stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        future = torch.__future__  # a parameter on the CPU cannot become one of a subclass in place
        overwrite = future.get_overwrite_module_params_on_conversion()
        self._stack.callback(future.set_overwrite_module_params_on_conversion, overwrite)
        future.set_overwrite_module_params_on_conversion(True)
        SimulatedCuda.active = self
        self._stack.callback(setattr, SimulatedCuda, "active", None)
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._stack.close()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return self.run(operation, args, kwargs or {})

    def run(self, operation, args, kwargs):
        """An ATen operation: as it is on the CPU, else with the checks and counts of a GPU."""
        name = operation.overloadpacket.__name__
        tensors = tensors_in((args, kwargs))
        ours = [tensor for tensor in tensors if isinstance(tensor, CudaTensor)]
        asked = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if not ours and (asked is None or asked.type != "cuda"):
            return operation(*args, **kwargs)
        if _is_composite(operation, name):
            with _entered(self):
                result = operation.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if name == "is_pinned":
            return False
        if name in ("_to_copy", "copy_"):
            return self._copy(operation, name, args, kwargs)
        device = self._device(operation, ours, asked)
        self._check(operation, name, args, kwargs, tensors)
        if name == "_local_scalar_dense":
            return args[0].held.item()
        held_args, held_kwargs = mapped(_held, CudaTensor, (args, kwargs))
        if asked is not None:
            held_kwargs["device"] = "cpu"
        held_kwargs.pop("pin_memory", None)
        computed = ON_A_GPU.get(name, operation)
        result = computed(*held_args, **held_kwargs)
        return self._finish(operation, name, (args, kwargs), (held_args, held_kwargs), result, device, computed)

    def launch(self, name: str, device: torch.device, function, args, kwargs, result) -> None:
        """Count an operation that ran, and record it if its device captures."""
        self.contexts.add(device.index)
        recorded = self.recording is not None and self.recording.device == device.index
        count = len(result) if name in PER_IMAGE else LAUNCHES.get(name, 0 if name in NO_LAUNCH else 1)
        for _ in range(count):
            self.note("launch in a graph" if recorded else "launch", name)
        if recorded:
            self.recording.add(function, name not in NO_LAUNCH, args, kwargs, result)

    def _device(self, operation, ours: list[CudaTensor], asked: torch.device | None) -> torch.device:
        devices = {tensor.device for tensor in ours} or {torch.device("cuda", self.index(asked))}
        if len(devices) > 1:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {devices} in {operation}")
        return devices.pop()

    def _check(self, operation, name: str, args, kwargs, tensors: list[torch.Tensor]) -> None:
        """Raise for a tensor on the host, and note what makes the host wait."""
        for tensor in tensors:
            if not isinstance(tensor, CudaTensor) and tensor.ndim:  # a number on the host is passed by value
                if name not in INDEXING or tensor is args[0]:
                    raise RuntimeError(
                        f"Expected all tensors to be on the same device, found cpu and cuda in {operation}"
                    )
                self.wait("indices on the host", "waiting copy")
        if name == "_local_scalar_dense":
            self.wait("item")
        if name in DATA_DEPENDENT:
            self.wait(name)
        if name in INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1]):
            self.wait("boolean index")
        if name == "repeat_interleave" and kwargs.get("output_size") is None:
            self.wait("repeat_interleave without output_size")

    def _copy(self, operation, name: str, args, kwargs):
        """Between host and device, between devices, or on one."""
        source = args[1] if name == "copy_" else args[0]
        asked = args[0].device if name == "copy_" else torch.device(kwargs.get("device") or source.device)
        target = torch.device("cuda", self.index(asked)) if asked.type == "cuda" else asked
        non_blocking = args[2] if name == "copy_" and len(args) > 2 else kwargs.get("non_blocking", False)
        if target.type == "cpu":
            self.wait("copy to the host")
        elif source.device.type == "cpu" and getattr(source, "pinned", False) and non_blocking:
            self._outside_of_captures("a copy of what the host has now")
            self.note("copy", str(source.dtype))
        elif source.device.type == "cpu" and (source.ndim or name != "copy_"):
            self.wait(f"{tuple(source.shape)} {source.dtype}", "waiting copy")
        held_args, held_kwargs = mapped(_held, CudaTensor, (args, kwargs))
        held_kwargs = {key: value for key, value in held_kwargs.items() if key not in ("non_blocking", "pin_memory")}
        if "device" in held_kwargs and target.type == "cuda":
            held_kwargs["device"] = "cpu"
        result = operation(*held_args[:2], **held_kwargs)
        if name == "_to_copy" and result is held_args[0]:
            result = result.clone()
        if target.type != "cuda":  # or meta
            return result
        return self._finish(operation, name, (args, kwargs), (held_args[:2], held_kwargs), result, target)

    def _finish(self, operation, name: str, given, held, result, device: torch.device, computed=None):
        """Count the operation and wrap its result; where it writes to an argument, that argument is the result."""
        self.launch(name, device, computed or operation, *held, result)
        base = given[0][0] if given[0] else None
        if name in VIEWS and torch.is_inference_mode_enabled() and not base.is_inference():
            with torch.inference_mode(False), torch.no_grad():  # a view of a normal tensor is a normal tensor
                return self._wrapped(operation, given, result, device)
        return self._wrapped(operation, given, result, device)

    def _wrapped(self, operation, given, result, device: torch.device):
        schema = operation._schema
        if not isinstance(result, tuple | list):
            alias = schema.returns[0].alias_info if schema.returns else None
            if alias is not None and alias.is_write:
                return _argument(schema, given, alias)
        return mapped(lambda tensor: CudaTensor(tensor, device), torch.Tensor, result)


def _held(tensor: CudaTensor) -> torch.Tensor:
    return tensor.held


def _argument(schema, given, alias):
    """The argument that the operation wrote to."""
    args, kwargs = given
    for number, argument in enumerate(schema.arguments):
        ours = argument.alias_info
        if ours is not None and ours.is_write and ours.before_set == alias.before_set:
            return args[number] if number < len(args) else kwargs[argument.name]
    raise NotImplementedError(f"{schema}: which argument is written to?")


@functools.cache
def _is_composite(operation, name: str) -> bool:
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), "CompositeImplicitAutograd")
    return composite and not name.startswith(WHOLE)


class _entered:
    """Within its block a mode sees the operations that one of its own is made of."""

    def __init__(self, mode: TorchDispatchMode) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        _push_mode(self.mode)

    def __exit__(self, *error) -> None:
        _pop_mode()


def _line_of_project() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        name = _name_in_project(frame.f_code.co_filename)
        if name:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "test"


@functools.cache
def _name_in_project(file: str) -> str:
    """The last two parts of a path; empty for tests and other projects."""
    folders = Path(file).parts
    if "site-packages" in folders or "tests" in folders:
        return ""
    return "/".join(folders[-2:]) if {"sdvar", "lightning_modules", "eval"} & set(folders) else ""
