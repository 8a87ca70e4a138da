"""The report's last section: everything that is needed to repeat the run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.report.run import Run


def repeat_context(run: Run) -> dict[str, Any]:
    """Values of the section's template: the command, the configuration, and what the run ran on."""
    environment = dict(run.metrics.get("environment") or {})
    images_only = run.config_text.startswith("model:") or "\nmodel:" in run.config_text
    command = environment.pop("command", None)
    facts = {**environment, **_measuring(run, environment)}
    if run.metrics.get("wall_seconds"):
        facts["wall time in seconds"] = run.metrics["wall_seconds"]
    return {
        "command": command,
        "from_config": f"python {'-m lightning_modules predict' if images_only else 'eval/fid.py'} --config "
        f"{run.out / 'config.yaml'}",
        "config": run.config_text.strip(),
        "facts": facts,
        "facts_json": json.dumps(facts, indent=2, ensure_ascii=False),
    }


def _measuring(run: Run, decoding: dict[str, Any]) -> dict[str, Any]:
    """What the measuring adds: its network's weights, and whatever differs where another machine did it."""
    measured = dict(run.metrics.get("measured_on") or {})
    weights = measured.pop("weights_sha256", {})
    command = measured.pop("command", None)
    differing = {key: value for key, value in measured.items() if key != "device" and decoding.get(key) != value}
    same_command = command == (run.metrics.get("environment") or {}).get("command")
    return {
        **({"feature_extractor_sha256": weights} if weights else {}),
        **({"measured by": command} if command and not same_command else {}),
        **({"measured on": differing} if differing and not same_command else {}),
    }
