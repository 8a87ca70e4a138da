"""The last section: everything that is needed to reproduce the run."""

from __future__ import annotations

import json
from typing import Any

from eval.report.run import Run


def section(run: Run) -> dict[str, Any]:
    """Values of the section's template: the command, the configuration, and what the run ran on."""
    environment = dict(run.metrics.get("environment") or {})
    command = environment.pop("command", None)
    facts = environment | _measuring(run, environment, command)
    if run.metrics.get("wall_seconds"):
        facts["wall time in seconds"] = run.metrics["wall_seconds"]
    images_only = any(line.startswith("model:") for line in run.config_text.splitlines())
    program = "-m lightning_modules predict" if images_only else "eval/fid.py"
    return {
        "command": command,
        "from_config": f"python {program} --config {run.out / 'config.yaml'}",
        "config": run.config_text.strip(),
        "facts": facts,
        "facts_json": json.dumps(facts, indent=2, ensure_ascii=False),
    }


def _measuring(run: Run, decoding: dict[str, Any], command: str | None) -> dict[str, Any]:
    """What the measuring adds: its network's weights, and whatever differs where another command measured."""
    measured = dict(run.metrics.get("measured_on") or {})
    facts = {"feature_extractor_sha256": measured.pop("weights_sha256", None)}
    measured_by = measured.pop("command", None)
    if measured_by != command:
        facts["measured by"] = measured_by
        facts["measured on"] = {
            key: value for key, value in measured.items() if key != "device" and decoding.get(key) != value
        }
    return {key: value for key, value in facts.items() if value}
