"""The config.yaml of a run, as the commands that work on a finished run read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.metrics import registry
from eval.metrics.decoding import likelihood
from lightning_modules.run.formats.records import REPAIR, expect, read_record

DEFAULTS = {"repeats": 1, "likelihood_images": likelihood.IMAGES, "resize": False}  # of a config that has none


def read_config(file: Path) -> dict[str, Any]:
    """The run's config.yaml; of what is read here each value has its type.

    Raises:
        ValueError: the file is damaged, or a value is of another type.
    """
    try:
        return _read(file)
    except ValueError as error:
        raise ValueError(f"{error}; {REPAIR}") from None


def _read(file: Path) -> dict[str, Any]:
    config = read_record(file)
    optional, several = (str, type(None)), (str, list, type(None))
    expect(file, config, reference=optional, feature_extractor=several, feature_extractor_weights=several)
    expect(file, config, lpips_weights=optional, pair=optional, sampling=(dict, type(None)))
    expect(file, DEFAULTS | config, repeats=int, likelihood_images=int, resize=bool, metrics=(str, list, type(None)))
    for name in ("repeats", "likelihood_images"):
        if config.get(name, 1) < 1:
            raise ValueError(f"{file}: {name}: expected an int >= 1, got {config[name]}")
    if config.get("metrics") is not None:
        metrics = config["metrics"]
        config["metrics"] = registry.parse_metrics(metrics if isinstance(metrics, str) else list(map(str, metrics)))
    return config
