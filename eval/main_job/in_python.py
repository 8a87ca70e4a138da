"""`eval.run`: the main job in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentError
from torch import Tensor

import sdvar
from eval.cli.groups import Options
from eval.cli.options import build_parser, complete
from eval.main_job.job import prepare
from eval.main_job.outcome import measure_job
from eval.main_job.repeated import earlier_outcome
from lightning_modules.arms.strategies import as_config
from lightning_modules.options.sampling import SAMPLING
from lightning_modules.processes.devices import count
from sdvar.system.command_line import expand_home


def run(config: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """See `eval.run`."""
    started = time.perf_counter()
    options = read_options(config, given)
    if count(options.devices) * options.num_nodes > 1:
        raise ValueError("devices: expected 1 from Python; for more processes run python eval/fid.py")
    if earlier := earlier_outcome(options):
        return earlier[0]
    job = prepare(options, started)
    prepared = time.perf_counter()
    job.trainer.predict(job.predictor, datamodule=job.data, return_predictions=False)
    metrics, _ = measure_job(job, options, time.perf_counter() - prepared)
    return metrics


def read_options(config: str | None, given: Mapping[str, Any]) -> Options:
    """The options of the main job from a config file and what overrides it.

    Raises:
        ValueError: with one line that says which option is wrong.
    """
    parser = build_parser("eval.run")
    if config is not None and not isinstance(config, str | Path):
        raise ValueError(f"config: expected the path of a YAML file, got {config!r:.60}")
    if config is not None and not Path(expand_home(config)).is_file():
        raise ValueError(f"config: no such file: {config}")
    try:
        base = None if config is None else parser.parse_path(expand_home(str(config)))
        parsed = expand_home(parser.parse_object(_plain(given), base))
    except ArgumentError as error:
        raise ValueError(str(error)) from None
    return complete(parsed, parsed.strategy)


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a config states them: strategies, samplings and paths in plain values."""
    options = {name: value for name, value in given.items() if value is not None}
    if isinstance(arms := options.get("strategy"), Mapping):
        options["strategy"] = {
            name: as_config(arm) if isinstance(arm, sdvar.Strategy) else arm for name, arm in arms.items()
        }
    if isinstance(sampling := options.get("sampling"), sdvar.Sampling):
        if sampling.more_smooth:
            raise ValueError("sampling.more_smooth: expected False, its images are not for measuring; got True")
        options["sampling"] = {name: getattr(sampling, name) for name in SAMPLING}
    return {name: value if name == "strategy" else _as_yaml(value) for name, value in options.items()}


def _as_yaml(value: Any) -> Any:
    """A value as YAML has it: ranges, tuples, arrays and tensors are lists, a path is text."""
    if isinstance(value, dict | str | bool | int | float):
        return value
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return value.tolist()
    return [_as_yaml(one) for one in value] if isinstance(value, list | tuple | range | set) else str(value)
