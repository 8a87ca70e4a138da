"""A finished and measured run, as the report reads it from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARM_COLOURS = ("#7b8794", "#2f7fd6", "#e07b1f", "#1f9e89", "#b5559f", "#9a8f2a", "#d1495b", "#5e6ad2")


@dataclass(frozen=True)
class Run:
    """A finished run, as its folder tells it.

    Attributes:
        out: the run's folder.
        metrics: contents of metrics.json.
        config_text: config.yaml, word for word; empty for images that were made without one.
        colours: a colour for each arm, the same all over the page.
    """

    out: Path
    metrics: dict[str, Any]
    config_text: str
    colours: dict[str, str]

    @property
    def arms(self) -> dict[str, dict]:
        """The figures of every arm, in the run's order."""
        return self.metrics["arms"]

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes, if the run knew them."""
        return self.metrics.get("class_names")


def load_run(out: Path | str) -> Run:
    """Reads a run's folder.

    Raises:
        ValueError: the folder does not hold a finished run.
    """
    out = Path(out)
    if not (out / "metrics.json").is_file():
        raise ValueError(f"{out} holds no metrics.json; a report needs the folder of a finished and measured run")
    try:
        metrics = json.loads((out / "metrics.json").read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{out / 'metrics.json'} is no valid JSON ({error}); measure the run again") from None
    if not metrics.get("arms"):
        raise ValueError(f"{out / 'metrics.json'} holds no arms; measure the run again")
    colours = {name: ARM_COLOURS[index % len(ARM_COLOURS)] for index, name in enumerate(metrics["arms"])}
    config = out / "config.yaml"
    return Run(out, metrics, config.read_text() if config.is_file() else "", colours)
