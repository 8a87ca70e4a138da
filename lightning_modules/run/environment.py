"""What a run ran on."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

PACKAGES = ("torch", "torchao", "lightning", "torchmetrics", "torch-fidelity", "datasets", "numpy", "pillow")


def describe_environment(device: str, threads: int, weights: dict[str, str]) -> dict:
    """Versions, hardware and weights, in plain values.

    Args:
        device: where the models ran, ``cpu`` or ``cuda``.
        threads: CPU threads per process.
        weights: SHA-256 of each weights file, by model.
    """
    import torch

    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    environment = {
        "command": _command(sys.argv),
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": versions,
        "device": device,
        "processor": _processor(),
        "threads": threads,
        "weights_sha256": weights,
    }
    if device == "cuda":
        environment["gpu"] = torch.cuda.get_device_name()
    revision = _git_revision()
    return environment | ({"git_revision": revision} if revision else {})


def _command(words: list[str]) -> str:
    """The command line as a user would type it; the installed script has its whole path in `sys.argv`."""
    script = Path(words[0]).name == "sdvar"
    return shlex.join(["sdvar", *words[1:]] if script else ["python", *words])


def describe_numerics(pair, engine, device: str) -> dict:
    """Number format and kernels of a pair of models: what rounding, and so a near-tie, depends on.

    Args:
        pair: a `sdvar.ModelPair`.
        engine: how it will decode, a `sdvar.Engine`.
        device: where the models ran, ``cpu`` or ``cuda``.
    """
    import torch

    from sdvar.kernels.selection import fused_pick

    target = pair.target
    fused = fused_pick(torch.device(device), target.logits_dtype, target.codebook_size)
    return {
        "dtype": str(next(pair.target.parameters()).dtype).removeprefix("torch."),
        "kernels": {
            **dataclasses.asdict(engine),
            "pick": "triton" if fused else "torch",
            "blocks": "triton" if target.block_kernels(torch.device(device)) else "torch",
            "head": "triton" if target.head_kernel(torch.device(device)) else "torch",
            "tokenizer_dtype": str(engine.decoder_dtype(pair.tokenizer, torch.device(device))).removeprefix("torch."),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "tf32_convolutions": torch.backends.cudnn.allow_tf32,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        },
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _git_revision() -> str | None:
    """The commit that is checked out, ``-dirty`` if files were changed; None outside a git checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return None
    return result.stdout.strip() or None
