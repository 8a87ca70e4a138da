"""The config.yaml of a run, as the commands that work on a finished run read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from eval.metrics import registry


def read_config(file: Path) -> dict[str, Any]:
    """The run's config.yaml; of what is read here each value has its type.

    Raises:
        ValueError: the file is damaged, or a value is of another type.
    """
    try:
        config = (yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file}: expected a mapping, got {type(config).__name__}")
    for name in ("reference", "feature_extractor", "feature_extractor_weights"):
        if not isinstance(config.get(name), str | None):
            raise ValueError(f"{file}: {name}: expected text, got {config[name]!r}")
    if config.get("metrics") is not None:
        metrics = config["metrics"] if isinstance(config["metrics"], list) else [config["metrics"]]
        config["metrics"] = registry.parse_metrics(",".join(map(str, metrics))) if metrics else []
    return config
