"""A finished and measured run, as the report reads it from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_modules.run.formats.text import read_text
from lightning_modules.run.names import METRICS

ARM_COLOURS = ("#7b8794", "#2f7fd6", "#e07b1f", "#1f9e89", "#b5559f", "#9a8f2a", "#d1495b", "#5e6ad2")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        out: the run's folder.
        metrics: contents of metrics.json.
        config_text: config.yaml, word for word; empty for images that were made without one.
        colours: a colour per arm, the same in every plot and table.
    """

    out: Path
    metrics: dict[str, Any]
    config_text: str
    colours: dict[str, str]

    @property
    def arms(self) -> dict[str, dict]:
        """The metrics of every arm, in the run's order."""
        return self.metrics["arms"]


def of_network(run: Run, network: str) -> Run:
    """The run as a further feature network measured it: its metrics alone, and the reference's."""
    named = {"feature_extractor": network}
    arms = {name: named | arm.get("networks", {}).get(network, {}) for name, arm in run.arms.items()}
    reference = run.metrics.get("reference") or {}
    of_reference = {**named, "images": reference.get("images"), **reference.get("networks", {}).get(network, {})}
    return replace(run, metrics={**run.metrics, "arms": arms, "reference": of_reference})


def load_run(out: Path | str) -> Run:
    """Reads a run's folder.

    Raises:
        ValueError: the folder is not that of a finished and measured run.
    """
    out = Path(out)
    file, config = out / METRICS, out / "config.yaml"
    if not file.is_file():
        raise ValueError(f"{out}: expected metrics.json, got no such file; a report needs a finished and measured run")
    try:
        metrics = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: expected JSON, got invalid text ({error}); measure the run again") from None
    if not metrics.get("arms"):
        raise ValueError(f"{file}: expected arms, got none; measure the run again")
    colours = {name: ARM_COLOURS[index % len(ARM_COLOURS)] for index, name in enumerate(metrics["arms"])}
    return Run(out, metrics, read_text(config) if config.is_file() else "", colours)
