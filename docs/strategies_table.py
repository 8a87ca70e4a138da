"""The table of docs/strategies.md, from a run at a large batch and one of the same arms at batch 1.

python docs/strategies_table.py runs/strategies runs/strategies_1
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

COLUMNS = (
    "setting", "target calls", "draft calls", "target tokens", "tokens as baseline", "agreement per scale, %",
    "accepted scales, %", "time, batch {small}", "time, batch {large}", "distance to baseline",
    "distance to real images", "IS",
)  # fmt: skip


def main(large: Path, small: Path) -> None:
    of_large, of_small = (json.loads((run / "metrics.json").read_text()) for run in (large, small))
    names = {"large": of_large["batch_size"], "small": of_small["batch_size"]}
    print("| " + " | ".join(column.format(**names) for column in COLUMNS) + " |")
    print("| --- |" + " ---: |" * (len(COLUMNS) - 1))
    for name, arm in of_large["arms"].items():
        cells = (
            f"`{_setting(arm['strategy'])}`" + (", other seeds" if name.endswith("_reseeded") else ""),
            f"{arm['target_calls_mean']:.2f}",
            f"{arm['draft_calls_mean']:.2f}",
            f"{arm['target_tokens_mean']:.0f}",
            _number(arm.get("token_agreement_with_baseline"), 4 if arm["exact"] else 3),
            _shares(arm["agreement_per_scale"]),
            _shares(arm["accepted_scales_per_scale"]),
            _number(1 / of_small["arms"][name]["speed_relative_to_baseline"], 2),
            _number(1 / arm["speed_relative_to_baseline"], 2),
            _number(arm.get("frechet_distance_to_baseline"), 3),
            _number(arm.get("frechet_distance_to_reference"), 3),
            _number(arm.get("inception_score_mean"), 2),
        )
        print("| " + " | ".join(cells) + " |")


def _setting(strategy: str) -> str:
    """A strategy's repr without arguments that have their default values."""
    for default in (", prefix='block_causal'", ", acceptance=Coupled()"):
        strategy = strategy.replace(default, "")
    return re.sub(r"\b(gamma|acceptance|scales|entry|model|spans)=", "", strategy)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{abs(value) if abs(value) < 0.5 * 10**-digits else value:.{digits}f}"


def _shares(values: list[float | None]) -> str:
    drafted = [value for value in values if value is not None]
    return " ".join(f"{100 * value:.0f}" for value in drafted) or "-"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
