"""Words of the report: how figures are written, which arms are compared, what an arm kept of the baseline."""

from __future__ import annotations

BASELINE = "baseline"
DASH = "\N{EN DASH}"


def is_reseeded_baseline(arms: dict[str, dict], name: str) -> bool:
    """Whether an arm is the baseline with other seeds: its distance is the noise floor."""
    arm, baseline = arms[name], arms.get(BASELINE)
    return (
        name != BASELINE
        and baseline is not None
        and arm["strategy"] == baseline["strategy"]
        and not has_baselines_seeds(arm)
    )


def has_baselines_seeds(arm: dict) -> bool:
    """Whether the arm was compared with the baseline token by token."""
    return arm.get("token_agreement_with_baseline") is not None or "images_differing_from_baseline" in arm


def is_simulated(arm: dict) -> bool:
    """Whether scales were accepted at given rates: then the speed means something, the images nothing."""
    return "Simulated(" in arm["strategy"]


def is_plain(arm: dict) -> bool:
    """Whether one model decoded alone."""
    return arm["strategy"].startswith("Baseline(")


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


def side_by_side(side: int) -> str:
    """The size of a square."""
    return f"{side} \N{MULTIPLICATION SIGN} {side}"


def images(count: int) -> str:
    """A count of images in words."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def which(names: list[str], arms: dict[str, dict]) -> str:
    """Some of a run's arms in words."""
    others = [name for name in arms if name not in names]
    if len(others) > 1:
        return ", ".join(names)
    return f"all arms but {others[0]}" if others else "all arms"


def sameness(arm: dict) -> dict[str, str]:
    """How the arm's tokens stand to the baseline's, against what its strategy promises.

    Returns:
        kind ("exact", "rounded", "distribution", "lossy", "plain", "simulated", "other" or "fault") and words that
        complete "this arm …".
    """
    if is_simulated(arm):
        return {"kind": "simulated", "words": "accepts scales at given rates: its speed is a simulation"}
    if not has_baselines_seeds(arm):
        return {"kind": "other", "words": "draws other seeds than the baseline"}
    agreement, differing = arm.get("token_agreement_with_baseline"), arm.get("images_differing_from_baseline", 0)
    tokens = f"{share(agreement)} of the baseline's tokens"
    if agreement is None:  # a run of an earlier version
        tokens = f"all of the baseline's tokens in {arm['images'] - differing:,} of {images(arm['images'])}"
    if not arm["lossless"] and is_plain(arm):
        return {"kind": "plain", "words": f"is one model alone: it has {tokens}"}
    if not arm["lossless"]:
        return {"kind": "lossy", "words": f"is lossy: it kept {tokens}"}
    if not arm["exact"]:
        return {"kind": "distribution", "words": f"is lossless in distribution (other draws: {tokens})"}
    if differing and "near_tie_images" not in arm:
        return {"kind": "rounded", "words": f"is lossless but for the rounding of a reduced precision ({tokens})"}
    beyond = differing - arm.get("near_tie_images", 0)
    if beyond > 0:
        verb = "differs" if beyond == 1 else "differ"
        words = f"promises the baseline's tokens, but {images(beyond)} {verb} by more than a near-tie: this is a fault"
        return {"kind": "fault", "words": words}
    if differing:
        words = f"is lossless up to near-ties in rounding ({images(differing)} of {arm['images']:,}; {tokens})"
        return {"kind": "exact", "words": words}
    return {"kind": "exact", "words": f"is lossless: all {images(arm['images'])} have the baseline's tokens"}
