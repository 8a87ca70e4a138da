"""What is said of a checkpoint that is not there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.reading.folders import WEIGHTS
from sdvar.checkpoints.reading.hub import BUNDLED, RELEASED, SHIPPED
from sdvar.system.command_line import did_you_mean

ON_HUB = re.compile(r"[\w.-]+/[\w.-]+(/[\w.-]+)*")


def absent(name: str, path: Path) -> CheckpointError:
    """The error about a path at which there is no file, with what was likely meant.

    Args:
        name: what the user gave.
        path: what it stands for.
    """
    if name.startswith("file:"):
        return CheckpointError(f"{name}: an address; give the path alone: {re.sub('^file:(//)?', '', name)}")
    if name in sorted(path.name for path in BUNDLED.iterdir() if path.is_dir()):
        return CheckpointError(f"{name}: a bundled pair, no checkpoint; give it as the pair, without draft and target")
    hint = did_you_mean(name.lower(), (*RELEASED, *SHIPPED)) or _beside(path)
    if not hint and ON_HUB.fullmatch(name) and not os.path.exists(name.partition("/")[0]):
        hint = "; a file of the hub is hf://OWNER/REPO/FILE"
    return CheckpointError(f"{name}: no such file; expected a .pth or .safetensors checkpoint{hint}")


def _beside(path: Path) -> str:
    """The file of weights in the same folder whose name is most like it."""
    try:
        return did_you_mean(path.name, [file for file in os.listdir(path.parent) if file.endswith(WEIGHTS)])
    except OSError:
        return ""
