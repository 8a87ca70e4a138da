"""The report's table of arms, and the warnings that belong to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.report.words import (
    BASELINE,
    DASH,
    distance,
    is_simulated,
    metric_names,
    noise_floor,
    number,
    sameness,
    share,
    which,
)

if TYPE_CHECKING:
    from eval.report.run import Run


def table_context(run: Run) -> dict:
    """Rows of the table of arms; a warning that several arms share is said once, above it."""
    arms = run.arms
    warned: dict[str, list[str]] = {}
    for name, arm in arms.items():
        for text in arm.get("warnings", []):
            warned.setdefault(text, []).append(name)
    rows = []
    for name, arm in arms.items():
        kind = "other" if name == BASELINE or BASELINE not in arms else sameness(arm)["kind"]
        score, spread = arm.get("inception_score_mean"), arm.get("inception_score_std")
        rows.append(
            {
                "name": name,
                "strategy": arm["strategy"],
                "own": {what: arm[what] for what in ("draft", "sampling") if what in arm},
                "kind": kind,
                "cells": (
                    f"{arm['images']:,}",
                    number(arm.get("target_calls_mean"), 2),
                    number(arm.get("draft_calls_mean"), 2),
                    number(arm.get("target_tokens_mean"), 0),
                    number(arm.get("draft_tokens_mean"), 0),
                    DASH if name == BASELINE else share(arm.get("token_agreement_with_baseline")),
                    distance(arm.get("frechet_distance_to_baseline")),
                    distance(arm.get("frechet_distance_to_reference")),
                    number(score, 2) + (f" ± {spread:.2f}" if score is not None and spread is not None else ""),
                    number(arm.get("images_per_second"), 1),
                    number(arm.get("seconds_per_batch_median"), 3),
                    number(arm.get("speed_relative_to_baseline"), 2),
                ),
                "warnings": [text for text, names in warned.items() if names == [name]],
            }
        )
    reference = run.metrics.get("reference") or {}
    return {
        "rows": rows,
        "shared": [{"arms": which(names, arms), "text": text} for text, names in warned.items() if len(names) > 1],
        "distance_name": metric_names(arms)[0],
        "score_name": metric_names(arms)[1],
        "floor": distance(noise_floor(arms)) if noise_floor(arms) is not None else None,
        "reference": {
            "images": f"{reference['images']:,}" if reference.get("images") else DASH,
            "score": number(reference.get("inception_score_mean"), 2),
        }
        if reference
        else None,
        "extractor": None if metric_names(arms)[0] == "FID" else metric_names(arms)[0].partition("(")[2].rstrip(")"),
        "simulated": [name for name in arms if is_simulated(arms[name])],
    }
