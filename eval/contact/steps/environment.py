"""Step: what this machine is, and whether a product runs on its GPU."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from typing import Any

import torch

from eval.contact.step import Outcome, Place, judged
from lightning_modules.run.environment import describe_environment

QUERY = "driver_version,power.limit,clocks.max.sm,memory.used,utilization.gpu,compute_mode"


def run(place: Place) -> Outcome:
    """Passed where a product on the GPU is that of the CPU."""
    gpus = [_describe(index) for index in range(torch.cuda.device_count())]
    libraries = {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": _nccl(),
        "triton": bool(importlib.util.find_spec("triton")),
        "c_compiler": next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None),
        "nvidia_smi": _nvidia_smi(),
    }
    described = describe_environment("cuda", torch.get_num_threads(), {})
    first, problems = gpus[place.device.index or 0], []
    factors = torch.arange(6.0).view(2, 3)
    if not torch.equal((factors.to(place.device) @ factors.T.to(place.device)).cpu(), factors @ factors.T):
        problems.append(f"{first['name']} multiplies two small matrices wrongly")
    capability = ".".join(map(str, first["capability"]))
    finding = (
        f"{len(gpus)} of {first['name']}, compute capability {capability}, "
        f"{first['free_bytes'] / 1e9:.0f} of {first['bytes'] / 1e9:.0f} GB free, torch {torch.__version__}"
    )
    if libraries["c_compiler"] is None:
        finding += "; no C compiler, so Triton's kernels do not run"
    return judged(problems, finding, gpus=gpus, libraries=libraries, environment=described)


def _describe(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "capability": [properties.major, properties.minor],
        "multiprocessors": properties.multi_processor_count,
        "bytes": properties.total_memory,
        "free_bytes": torch.cuda.mem_get_info(index)[0],
    }


def _nccl() -> str | None:
    try:
        return ".".join(map(str, torch.cuda.nccl.version()))
    except (AttributeError, RuntimeError):  # a build without it
        return None


def _nvidia_smi() -> str | None:
    """What the driver's tool says of clocks, power and other users of the GPUs; None where it is not there."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
