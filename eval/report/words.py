"""Words and numbers of the report: which arms are compared, what they keep of the baseline, how values are shown."""

from __future__ import annotations

from eval.estimates.simulated import Simulated
from eval.metrics.metric import Column, Metric
from eval.metrics.registry import columns
from eval.report.run import Run
from lightning_modules.arms.strategies import import_path
from lightning_modules.run.names import BASELINE

INCEPTION = "inception-v3-compat"
WIDTHS = {"fashion-mnist-128": 128, INCEPTION: 2048}  # features of which the Fréchet distance is taken
ENOUGH = 10  # images per feature, for a claim about distances whose intervals do not decide it
NEAR = 0.1  # of the noise floor: two estimates of it differ by as much
ORIGINAL = {"fid": "FID", "kid": "KID"}  # names that are the original network's alone
DASH = "\N{EN DASH}"
SPEED, FAR = "speed_relative_to_baseline", "frechet_distance_to_baseline"
FAR_INTERVAL = f"{FAR}_interval"
DIFFERENCE = "frechet_distance_to_reference_difference"
SIMULATED = import_path(Simulated)
COLUMNS = {column.key: column for column in columns()}


def is_reseeded_baseline(arms: dict[str, dict], name: str) -> bool:
    """Whether an arm is the baseline with other seeds: its distance to the baseline is the noise floor."""
    baseline = arms.get(BASELINE)
    same = baseline is not None and arms[name]["strategy"] == baseline["strategy"]
    return name != BASELINE and same and not has_baselines_seeds(arms[name])


def has_baselines_seeds(arm: dict) -> bool:
    """Whether the arm was compared with the baseline token by token."""
    return arm.get("token_agreement_with_baseline") is not None


def is_simulated(arm: dict) -> bool:
    """Whether scales are accepted at given rates: then the speed is meaningful, the images are not."""
    acceptance = arm["arm"].get("init_args", {}).get("acceptance", {})
    return acceptance.get("class_path", "") == SIMULATED


def is_plain(arm: dict) -> bool:
    """Whether one model decodes alone."""
    return arm["kind"] in ("target", "draft")


def noise_floor(arms: dict[str, dict]) -> float | None:
    """Distance between two baseline runs that differ in nothing but the seeds, if the run measured it."""
    floors = [arm.get(FAR) for name, arm in arms.items() if is_reseeded_baseline(arms, name)]
    return next((floor for floor in floors if floor is not None), None)


def too_few_images(arms: dict[str, dict]) -> str | None:
    """Why distances that are close to each other cannot be ranked, in words; None where there are enough images.

    A covariance of C features from fewer than some 10 C images is mostly noise, and so is a distance's place among
    others.
    """
    count = next(iter(arms.values()))["images"]
    needed = ENOUGH * _width(arms)
    return f"{images(count)} are too few to rank distances ({needed:,} are needed)" if count < needed else None


def _width(arms: dict[str, dict]) -> int:
    """Features of which the distances are taken."""
    return WIDTHS.get(other_network(arms) or INCEPTION, WIDTHS[INCEPTION])


def place(arms: dict[str, dict], name: str) -> str | None:
    """An arm's distance to the baseline beside the noise floor: "below", "near" or "above"; None if it cannot be told.

    It is near where the 95 % intervals overlap or the two differ by less than `NEAR`. With too few images to rank
    distances (see `too_few_images`) that says nothing, and "below" and "above" need intervals and more images than
    features: with fewer the covariance is singular.
    """
    floors = [arm for other, arm in arms.items() if is_reseeded_baseline(arms, other) and arm.get(FAR) is not None]
    arm = arms[name]
    if not floors or arm.get(FAR) is None:
        return None
    floor, few = floors[0][FAR], too_few_images(arms) is not None
    low, high = _interval(arm, 0)
    bottom, top = _interval(floors[0], NEAR * floor)
    found = "below" if high < bottom else "above" if low > top else "near"
    return None if few and (found == "near" or arm["images"] <= _width(arms) or FAR_INTERVAL not in arm) else found


def _interval(arm: dict, margin: float) -> tuple[float, float]:
    """Of an arm's distance to the baseline, and so far beside it at least."""
    far = arm[FAR]
    low, high = arm.get(FAR_INTERVAL) or (far, far)
    return min(low, far - margin), max(high, far + margin)


def compared_arms(arms: dict[str, dict]) -> list[str]:
    """The arms that are compared with the baseline on the same seeds."""
    return [name for name in arms if name != BASELINE and not is_reseeded_baseline(arms, name)]


def warned(arms: dict[str, dict]) -> dict[str, list[str]]:
    """The arms that have each of the warnings."""
    found: dict[str, list[str]] = {}
    for name, arm in arms.items():
        for text in arm["warnings"]:
            found.setdefault(text, []).append(name)
    return found


def first_network(arms: dict[str, dict]) -> str | None:
    """The network whose features were measured; None where nothing was."""
    return next((arm["feature_extractor"] for arm in arms.values() if "feature_extractor" in arm), None)


def other_network(arms: dict[str, dict]) -> str | None:
    """The same; None also where it is the original Inception."""
    network = first_network(arms)
    return None if network == INCEPTION else network


def further_networks(arms: dict[str, dict]) -> list[str]:
    """The networks beside the first one that measured the arms."""
    return list(dict.fromkeys(name for arm in arms.values() for name in arm.get("networks", {})))


def metric_names(arms: dict[str, dict]) -> tuple[str, str]:
    """Names of the distance and of the score: plain only where the features are the original Inception's."""
    network = other_network(arms)
    return (f"Fréchet distance ({network})", f"Inception Score ({network})") if network else ("FID", "Inception Score")


def metric_title(metric: Metric, run: Run) -> str:
    """Heading of a metric's columns: it includes what the metric depends on."""
    if metric.name == "speed":
        return f"{metric.title}, batch size {run.metrics['batch_size']}"
    if metric.needs != "features":
        return metric.title
    network = other_network(run.arms)
    return f"{metric.title} ({network})" if network else ORIGINAL.get(metric.name, metric.title)


def shown(column: Column | str, value: object) -> str:
    """A value as the report shows it: with the registry's digits, a share in per cent, a dash where there is none.

    Args:
        column: of the registry, or its key.
        value: of the column; or an arm, whose value is then shown with its spread.
    """
    column = COLUMNS[column] if isinstance(column, str) else column
    values = value if isinstance(value, dict) else {column.key: value}
    if column.key == DIFFERENCE and column.interval_key in values:
        return difference(values)
    if column.is_share:
        text, interval = share(values.get(column.key)), values.get(column.interval_key)
        return f"{text} ({100 * interval[0]:.1f} … {100 * interval[1]:.1f})" if interval else text
    return column.text(values, DASH, spread=True)


def difference(arm: dict) -> str:
    """How the arm's distance to the reference compares with the baseline's, by the interval of their difference."""
    column = COLUMNS[DIFFERENCE]
    interval = arm[column.interval_key]
    words = "better" if interval[1] < 0 else "worse" if interval[0] > 0 else "no difference seen"
    low, high = (signed(column.number(bound)) for bound in interval)
    return f"{words} (95 % interval {low} … {high})"


def signed(number: str) -> str:
    """A number with its sign."""
    negative, zero = number.startswith("-"), not number.strip("-0.,")
    return number if zero else f"\N{MINUS SIGN}{number[1:]}" if negative else f"+{number}"


def share(value: float | None) -> str:
    """A share in per cent that reads 100 only if it is."""
    if value is None:
        return DASH
    text = f"{100 * value:.1f}"
    return f"{'> 99.9' if text == '100.0' and value < 1 else text.removesuffix('.0')} %"


def images(count: int) -> str:
    """A count of images in words."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def all_images(count: int) -> str:
    """All of so many images, in words."""
    return f"all {images(count)}" if count > 1 else "its one image"


def too_few_batches(arm: dict) -> bool:
    """Whether its speed comes from too few batches to be quoted, or to be ranked by."""
    return any(text.startswith("speed:") for text in arm["warnings"])


def real_images(metrics: dict) -> str | None:
    """The reference of a run and the number of its images; None without one."""
    reference = metrics.get("reference") or {}
    if "source" not in reference:
        return None
    used = images(reference["images"]) if "images" in reference else "statistics alone"
    return f"{reference['source']}, {used}"


def which(names: list[str], arms: dict[str, dict]) -> str:
    """Some of a run's arms in words."""
    others = [name for name in arms if name not in names]
    if len(others) > 1:
        return ", ".join(names)
    return f"all arms except {others[0]}" if others else "all arms"


def sameness(arm: dict) -> dict[str, str]:
    """How the arm's tokens compare with the baseline's, against what its strategy promises.

    Returns:
        kind ("exact", "rounded", "distribution", "lossy", "plain", "simulated", "other" or "fault") and words that
        complete "this arm …".
    """

    def state(kind: str, words: str) -> dict[str, str]:
        return {"kind": kind, "words": words}

    if is_simulated(arm):
        return state("simulated", "uses simulated acceptance: only its speed is meaningful")
    if not has_baselines_seeds(arm):
        return state("other", "uses other seeds than the baseline")
    tokens = f"{share(arm['token_agreement_with_baseline'])} of its tokens match the baseline's"
    differing, count = arm["images_differing_from_baseline"], arm["images"]
    if not arm["lossless"]:
        kind, words = ("plain", "is one model alone") if is_plain(arm) else ("lossy", "is lossy")
        return state(kind, f"{words}: {tokens}")
    if not arm["exact"]:
        return state("distribution", f"is lossless in distribution (it draws its own tokens: {tokens})")
    if differing and "near_tie_images" not in arm:
        return state("rounded", f"is lossless up to rounding in reduced precision ({tokens})")
    beyond = differing - arm.get("near_tie_images", 0)
    if beyond > 0:
        words = f"{images(beyond)} {'differs' if beyond == 1 else 'differ'} by more than a near-tie: this is a fault"
        return state("fault", f"should reproduce the baseline's tokens, but {words}")
    if differing:
        words = f"{differing:,} of {images(count)} {'differs' if differing == 1 else 'differ'}; {tokens}"
        return state("exact", f"is lossless up to near-ties in rounding ({words})")
    return state("exact", f"is lossless: {all_images(count)} {'have' if count > 1 else 'has'} the baseline's tokens")
