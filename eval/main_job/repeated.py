"""A finished run that would come out the same: the command that made it shows it again, within seconds.

When a run has been measured, it keeps the digest of all that its figures follow from, and of what was written. While
that digest stays the same, neither models nor images are loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from eval.cli.options import as_config
from eval.metrics.content import content
from lightning_modules import pair_source
from lightning_modules.pair_source import source_of
from lightning_modules.processes.launcher import is_alone
from lightning_modules.run.contents import read_settings
from lightning_modules.run.environment import PACKAGES
from lightning_modules.run.folder import RunFolder
from lightning_modules.run.names import FILES, MEASURED, METRICS, REPORT
from lightning_modules.run.repairs import is_whole
from sdvar.checkpoints import sha256
from sdvar.drafts import of_target

GIVEN = ("labels", "reference", "feature_extractor_weights", "lpips_weights")  # options that may name files
CODE = [Path(__file__).parents[2] / name for name in ("sdvar", "lightning_modules", "eval")]


def earlier_outcome(options: Namespace) -> tuple[dict[str, Any], Path] | None:
    """What the same run wrote before, if all of it is there and would come out the same.

    Args:
        options: of the command.

    Returns:
        The content of metrics.json and the file of the report; None where the run has to be looked at in full, also if
        something is wrong with it.
    """
    folder = RunFolder(options.out)
    kept = folder.path / MEASURED
    if options.overwrite or options.no_cache or not is_alone() or not kept.is_file() or kept.is_symlink():
        return None
    try:
        with folder.lock.held():
            if kept.read_text() != _digest(options, folder) or not is_whole(folder):
                return None
            metrics = json.loads((folder.path / METRICS).read_text(encoding="utf-8"))
            images = sum(len(folder.manifest(arm).read()) for arm in folder.arms())
    except (ValueError, OSError):
        return None
    print(f"out: {folder.path} has {images:,} of {images:,} images of all arms already")
    return metrics, folder.path / REPORT


def keep_outcome(options: Namespace, folder: RunFolder) -> None:
    """Keeps the digest of a run that has been measured; none if a strategy is code of the user's own.

    Args:
        options: of the command.
        folder: of the run, held.
    """
    if not any("source_sha256" in arm for arm in folder.arms().values()):
        folder.write(MEASURED, _digest(options, folder))


def _digest(options: Namespace, folder: RunFolder) -> str:
    arms = folder.arms()
    tables = [table.path for arm in arms for table in (folder.manifest(arm), folder.batches(arm))]
    files = [folder.path / name for name in FILES if name != MEASURED]
    for file in (*files, *tables):
        if not file.is_file():  # a pipe would have no end
            raise ValueError(f"{file}: expected a file of the run, got none")
    config = as_config(options)
    drafts = [arm["draft"] for arm in arms.values() if arm.get("draft") and not of_target(arm["draft"])]
    parts = {
        "options": config,
        "arms": (read_settings(folder.path) or {}).get("arms"),
        "run": {str(file.relative_to(folder.path)): sha256(file) for file in (*files, *tables)},
        "weights": [
            pair_source.digests(source_of(options.pair, options.draft, options.target, options.tokenizer)),
            *map(pair_source.digest, drafts),
        ],
        "given": [list(content(file)) for name in GIVEN for file in _files(config.get(name))],
        "code": [list(content(package)) for package in CODE],
        "machine": [torch.cuda.is_available(), platform.python_version(), *map(metadata.version, PACKAGES)],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest() + "\n"


def _files(given: object) -> list[Path]:
    """The files and folders that an option names: alone, in a list, or each as NAME=FILE."""
    texts = given if isinstance(given, list) else [given]
    words = [word for text in map(str, texts) for word in (text, *text.split(","))]
    named = (word.rpartition("=")[2].strip() for word in words)
    return [Path(name) for name in named if name and os.path.exists(name)]
