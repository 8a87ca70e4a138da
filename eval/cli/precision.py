"""What ``--precision auto`` stands for."""

from __future__ import annotations

from pathlib import Path

import torch

from lightning_modules.pair_source import PRECISION_NAMES, PRECISIONS
from lightning_modules.processes.launcher import is_first
from lightning_modules.run.contents import read_settings
from sdvar.models.dtypes import AUTO, choose_dtype


def resolve(asked: str, accelerator: str, kept: str | None = None) -> str:
    """A precision by its name; what "auto" stands for is printed, with the reason, by the first process of a run.

    Args:
        asked: of the options.
        accelerator: auto, cpu, cuda or gpu.
        kept: of the run that is continued, if there is one: its images all have one precision, wherever it goes on.
    """
    if asked != AUTO:
        return asked
    if kept in PRECISIONS:
        chosen, reason = kept, "the run that is continued has it"
    else:
        on_gpu = accelerator != "cpu" and torch.cuda.is_available()
        dtype, reason = choose_dtype("cuda:0" if on_gpu else "cpu")  # the same in all processes of a node
        chosen = PRECISION_NAMES[dtype]
    if is_first():
        print(f"precision auto: {chosen}, since {reason}", flush=True)
    return chosen


def precision_of(out: str) -> str | None:
    """The precision of the run in a folder; None if there is no run. ValueError if its settings are damaged."""
    settings = read_settings(Path(out))
    return settings["precision"] if settings else None
