"""The figures of a claim that can be checked without features: from its own digests and counts, and from the run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from eval.claims.digests import MISSING
from eval.claims.read import Claim, ClaimedArm
from eval.claims.write import figures_of
from eval.metrics.measuring import table_values
from lightning_modules.columns import PER_IMAGE
from lightning_modules.run.finished import FinishedRun
from lightning_modules.run.formats.records import read_record
from lightning_modules.run.names import BASELINE

TOLERANCE = 1e-6  # sums in another order
Figures = Mapping[str, Mapping[str, Any]]  # by arm and name
Key = tuple[str, str]  # arm and name


def from_claim(claim: Claim) -> Figures:
    """What follows from the counts and digests of a claim: work per image, images and tokens as the baseline's."""
    return {name: _follows(arm, claim.arms.get(BASELINE)) for name, arm in claim.arms.items()}


def _follows(arm: ClaimedArm, baseline: ClaimedArm | None) -> dict[str, Any]:
    values: dict[str, Any] = {f"{name}_mean": sum(arm.counts[name]) / len(arm.png) for name in PER_IMAGE}
    calls = Counter(arm.counts["target_calls"])
    values["target_calls_images"] = [calls[count] for count in range(max(calls) + 1)]
    if baseline is None or arm.seeds != baseline.seeds:
        return values
    if arm is not baseline:
        values["identical_images"] = sum(a == b for a, b in zip(arm.png, baseline.png))
    if MISSING not in arm.tokens and MISSING not in baseline.tokens:
        values["images_differing_from_baseline"] = sum(a != b for a, b in zip(arm.tokens, baseline.tokens))
    return values


def from_run(run: FinishedRun) -> tuple[Figures, Figures]:
    """What follows from the tables of a run, and what its metrics.json says."""
    tables = {arm.name: table_values(run, arm) for arm in run.arms}
    metrics = read_record(run.folder.path / "metrics.json").get("arms")
    said = metrics if isinstance(metrics, dict) else {}
    return tables, {name: figures_of(values) for name, values in said.items() if isinstance(values, dict)}


def compare(claim: Claim, found: Figures, source: str) -> tuple[list[str], set[Key]]:
    """Compares the claimed figures with others, as far as both have them.

    Args:
        claim: whose figures.
        found: by arm and name.
        source: where these come from, as messages name it.

    Returns:
        What differs, in words, and the figures that were compared, by arm and name.
    """
    wrong, compared = [], set()
    for name, arm in claim.arms.items():
        for key in arm.figures.keys() & found.get(name, {}).keys():
            claimed, value = arm.figures[key], found[name][key]
            compared.add((name, key))
            if not same(claimed, value):
                wrong.append(f"{name}: {key}: claimed {_short(claimed)}, {source} {_short(value)}")
    return sorted(wrong), compared


def same(a: object, b: object) -> bool:
    """Whether two values are equal, numbers up to rounding."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) in (int, float) and type(b) in (int, float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(a) is type(b) and a == b


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
