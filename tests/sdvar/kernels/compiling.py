"""Compiles kernels for GPUs that are not here, and reads what they would take of one."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

import pytest


class NoDevice:
    """Stands for a GPU that is not there; its number is its compute capability."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self):
        return self.capability

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)


class OnlyCompiled:
    """In the place of a kernel: its calls compile it for the active device into ``made``, and launch nothing."""

    def __init__(self, kernel, made: list) -> None:
        self.kernel, self.made = kernel, made

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.made.append(self.kernel.warmup(*arguments, grid=grid, **options))


def skip_unless_it_compiles() -> None:
    triton = pytest.importorskip("triton")
    if triton.knobs.runtime.interpret:
        pytest.skip("TRITON_INTERPRET is set: nothing is compiled")
    for tool in ("ptxas", "cuobjdump"):
        if not (_tools() / tool).is_file():
            pytest.skip(f"this Triton has no {tool}")


def usage(kernel) -> dict[str, int]:
    """What a compiled kernel uses of the GPU for each thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [_tools() / "cuobjdump", "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", said)}


def _tools() -> Path:
    import triton

    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
