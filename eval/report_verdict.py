"""The report's words and table: what was compared, is it lossless, how far from the baseline, how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.report import Run

BASELINE = "baseline"
DASH = "\N{EN DASH}"


def is_reseeded_baseline(arms: dict[str, dict], name: str) -> bool:
    """Whether an arm is the baseline with other seeds: its distance is the noise floor."""
    arm, baseline = arms[name], arms.get(BASELINE)
    return (
        name != BASELINE
        and baseline is not None
        and arm["strategy"] == baseline["strategy"]
        and arm.get("token_agreement_with_baseline") is None
    )


def noise_floor(arms: dict[str, dict]) -> float | None:
    """Distance between two baseline runs that differ in nothing but the seeds, if the run measured it."""
    floors = [arm.get("frechet_distance_to_baseline") for name, arm in arms.items() if is_reseeded_baseline(arms, name)]
    return next((floor for floor in floors if floor is not None), None)


def compared_arms(arms: dict[str, dict]) -> list[str]:
    """The arms that are measured against the baseline on the same seeds."""
    return [name for name in arms if name != BASELINE and not is_reseeded_baseline(arms, name)]


def metric_names(arms: dict[str, dict]) -> tuple[str, str]:
    """Names of the distance and of the score: plain only where the features are the original Inception's."""
    extractor = next((arm["feature_extractor"] for arm in arms.values() if arm.get("feature_extractor")), None)
    if extractor in (None, "inception-v3-compat"):
        return "FID", "Inception Score"
    return f"Fréchet distance ({extractor})", f"Inception Score ({extractor})"


def distance(value: float | None) -> str:
    """A distance in three digits or so; rounding may leave a zero slightly negative."""
    if value is None:
        return DASH
    return f"{max(value, 0):.3f}" if value < 1 else f"{value:.2f}"


def number(value: float | None, digits: int) -> str:
    """A figure, or a dash where there is none."""
    return DASH if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """A share in per cent that reads 100 only if it is."""
    if value is None:
        return DASH
    text = f"{100 * value:.1f}"
    return f"{'> 99.9' if text == '100.0' and value < 1 else text.removesuffix('.0')} %"


def images(count: int) -> str:
    """A count of images in words."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def sameness(arm: dict) -> dict[str, str]:
    """How the arm's tokens stand to the baseline's, against what its strategy promises.

    Returns:
        kind ("exact", "rounded", "distribution", "lossy", "other" or "fault") and words that complete "this arm …".
    """
    agreement = arm.get("token_agreement_with_baseline")
    if agreement is None:
        return {"kind": "other", "words": "draws other seeds than the baseline"}
    tokens = f"{share(agreement)} of the baseline's tokens"
    if not arm["lossless"]:
        return {"kind": "lossy", "words": f"is lossy: it kept {tokens}"}
    if not arm["exact"]:
        return {"kind": "distribution", "words": f"is lossless in distribution (other draws: {tokens})"}
    differing = arm.get("images_differing_from_baseline", 0)
    if "near_tie_images" not in arm:
        return {"kind": "rounded", "words": f"is lossless but for the rounding of a reduced precision ({tokens})"}
    beyond = differing - arm["near_tie_images"]
    if beyond > 0:
        verb = "differs" if beyond == 1 else "differ"
        words = f"promises the baseline's tokens, but {images(beyond)} {verb} by more than a near-tie: this is a fault"
        return {"kind": "fault", "words": words}
    if differing:
        words = f"is lossless up to near-ties in rounding ({images(differing)} of {arm['images']:,}; {tokens})"
        return {"kind": "exact", "words": words}
    return {"kind": "exact", "words": f"is lossless: all {images(arm['images'])} have the baseline's tokens"}


def _clauses(run: Run, name: str) -> str:
    """Calls, speed and distance of one arm, as words that complete "it …"."""
    arm, baseline, floor = run.arms[name], run.arms.get(BASELINE, {}), noise_floor(run.arms)
    calls, of_baseline = arm.get("target_calls_mean"), baseline.get("target_calls_mean")
    speed, far = arm.get("speed_relative_to_baseline"), arm.get("frechet_distance_to_baseline")
    parts = []
    if calls is not None and of_baseline is not None:
        parts.append(f"needs {calls:.2f} target calls instead of {of_baseline:g}")
    if speed is not None:
        parts.append(f"runs at {speed:.2f} times the baseline's speed")
    if far is not None:
        label = metric_names(run.arms)[0]
        beside = f", beside a noise floor of {distance(floor)}" if floor is not None else ""
        article = "an" if label == "FID" else "a"
        parts.append(f"has {article} {label} of {distance(far)} to the baseline{beside}")
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def verdict_context(run: Run) -> dict:
    """The page's head: the sentence, the key figures of the first compared arm, and a line for each other arm."""
    arms, floor = run.arms, noise_floor(run.arms)
    compared = compared_arms(arms)
    first = arms[compared[0]] if compared else next(iter(arms.values()))
    label = metric_names(arms)[0]
    tiles = []
    if compared:
        baseline = arms.get(BASELINE, {})
        state = sameness(first)
        speed = first.get("speed_relative_to_baseline")
        values = (
            ("Tokens as the baseline", share(first.get("token_agreement_with_baseline")), _promise(state["kind"])),
            (
                "Target calls an image",
                number(first.get("target_calls_mean"), 2),
                f"baseline {number(baseline.get('target_calls_mean'), 2)}",
            ),
            (
                "Speed",
                f"{speed:.2f} \N{MULTIPLICATION SIGN}" if speed else DASH,
                f"of the baseline, at batch size {run.metrics['batch_size']}",
            ),
            (
                f"{label} to the baseline",
                distance(first.get("frechet_distance_to_baseline")),
                f"noise floor {distance(floor)}",
            ),
        )
        tiles = [
            {"title": title, "value": value, "note": note, "fault": state["kind"] == "fault" and index == 0}
            for index, (title, value, note) in enumerate(values)
        ]
    lines = [{"arm": name, "words": sameness(arms[name])["words"], "clauses": _clauses(run, name)} for name in compared]
    return {"count": first["images"], "first": lines[0] if lines else None, "others": lines[1:], "tiles": tiles}


def _promise(kind: str) -> str:
    return {
        "exact": "promised and kept: lossless",
        "rounded": "reduced precision: rounding turns picks",
        "distribution": "lossless in distribution",
        "lossy": "lossy by design",
        "fault": "promised all: a fault",
        "other": "other seeds",
    }[kind]


def which(names: list[str], arms: dict[str, dict]) -> str:
    """Some of a run's arms in words."""
    others = [name for name in arms if name not in names]
    if len(others) > 1:
        return ", ".join(names)
    return f"all arms but {others[0]}" if others else "all arms"


def table_context(run: Run) -> dict:
    """Rows of the table of arms; a warning that several arms share is said once, above it."""
    arms = run.arms
    warned: dict[str, list[str]] = {}
    for name, arm in arms.items():
        for text in arm.get("warnings", []):
            warned.setdefault(text, []).append(name)
    rows = []
    for name, arm in arms.items():
        kind = "other" if name == BASELINE else sameness(arm)["kind"]
        score, spread = arm.get("inception_score_mean"), arm.get("inception_score_std")
        rows.append(
            {
                "name": name,
                "strategy": arm["strategy"],
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
        "plain": metric_names(arms)[0] == "FID",
    }
