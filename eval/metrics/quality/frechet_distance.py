"""Fréchet distance to the baseline and to the reference, by torch-fidelity: FID on the features of Inception-v3.

With intervals, the difference to the baseline's distance on the same images, and what infinitely many would have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from eval.metrics.features.published import INCEPTION
from eval.metrics.intervals import around
from eval.metrics.metric import REFERENCE, Column, Metric, Result, Values
from lightning_modules.run.names import BASELINE

if TYPE_CHECKING:
    from eval.metrics.features.extraction import Features

# The covariance of C features has rank N - 1 at most, and the distance's bias falls as 1/N: the usual 10,000 images
# for Inception's 2,048 features are 5 images per feature, and 4 pass here without a warning.
ENOUGH = 4
HEADLINE = 10_000  # images below which nobody should cite a FID


def compute(ours: Features, others: Mapping[str, Features]) -> Result:
    """Fréchet distance to each of the others."""
    values, warnings = {}, []
    for name, other in others.items():
        if ours.statistics is None or other.statistics is None:
            warnings.append(f"no Fréchet distance to the {name}: a covariance needs at least 2 images")
            continue
        warnings += _sample_size(ours, other, name) + _image_size(ours, other, name)
        values[f"frechet_distance_to_{name}"] = _distance(ours, other)
        values |= _intervals(ours, other, name, others.get(BASELINE))
    return values, warnings


def _intervals(ours: Features, other: Features, name: str, baseline: Features | None) -> Values:
    """Of the distance to another set: its interval, its limit at infinitely many images, and its paired difference.

    A reference is taken as it is. The baseline's images vary with the arm's, each with that of the same number.
    """
    from eval.metrics.quality import frechet_intervals as intervals
    from eval.metrics.quality.frechet_intervals import Moments, device, influences

    if not ours.layers:  # statistics alone
        return {}
    features, key = ours.of("fid").to(device()), f"frechet_distance_to_{name}"
    own = Moments.of(features)
    paired = name == BASELINE and bool(other.layers) and other.images == ours.images
    theirs = other.of("fid").to(device()) if paired else None
    moments = Moments.given(other.statistics) if theirs is None else Moments.of(theirs)
    of_images = [influences(features, own, moments)]
    if theirs is not None:
        of_images.append(influences(theirs, moments, own))
    value, error = intervals.distance(own, moments), intervals.paired_error(*of_images)
    values: Values = {f"{key}_interval": around(value, error)}
    infinite = intervals.extrapolate(features, moments if theirs is None else theirs, error)
    if infinite is not None:
        values |= {f"{key}_infinite": infinite.value, f"{key}_infinite_interval": around(*infinite)}
    if name == REFERENCE and baseline is not None and baseline is not ours and baseline.images == ours.images:
        base = baseline.of("fid").to(device())
        at_base = Moments.of(base)
        difference = value - intervals.distance(at_base, moments)
        error = intervals.paired_error(of_images[0], -influences(base, at_base, moments))
        values |= {f"{key}_difference": difference, f"{key}_difference_interval": around(difference, error)}
    return values


def _distance(ours: Features, other: Features) -> float:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    # torch-fidelity insists on one data type; statistics made elsewhere may be float64.
    theirs = {key: value.astype(ours.statistics[key].dtype) for key, value in other.statistics.items()}
    return fid_statistics_to_metric(ours.statistics, theirs, verbose=False)[KEY_METRIC_FID]


def _sample_size(ours: Features, other: Features, name: str) -> list[str]:
    width = len(ours.statistics["mu"])
    fewest = min(count for count in (ours.images, other.images) if count is not None)
    if fewest < ENOUGH * width:
        degree = "far too few: the covariance is singular" if fewest <= width else "too few: the distance reads high"
        return [f"Fréchet distance to the {name}: {fewest:,} images for {width:,} features are {degree}"]
    if fewest < HEADLINE and ours.feature_extractor == INCEPTION:
        return [f"FID to the {name}: {fewest:,} images are fewer than {HEADLINE:,}, too few to cite it"]
    return []


def _image_size(ours: Features, other: Features, name: str) -> list[str]:
    if other.size is None or other.size == ours.size:
        return []
    theirs, own = (f"{size[0]} x {size[1]}" for size in (other.size, ours.size))
    advice = "; --resize brings the reference's to this size" if name == REFERENCE else ""
    return [f"the {name}'s images are {theirs}, these {own}: the distance includes the change of size{advice}"]


FRECHET_DISTANCE = Metric(
    name="fid",
    title="Fréchet distance",
    help="Fréchet distance",
    needs="features",
    compute=compute,
    columns=(
        *(
            column
            for other in (BASELINE, REFERENCE)
            for column in (
                Column(
                    f"frechet_distance_to_{other}",
                    f"Fréchet distance to the {other}; rounding may leave it slightly below 0",
                    title=f"distance to {other}",
                    terminal=True,
                    decimals=3,
                    better="lower",
                    interval=True,
                ),
                Column(
                    f"frechet_distance_to_{other}_infinite",
                    f"extrapolated to infinitely many images: without the bias that few images have; to the {other}",
                    title=f"to {other}, extrapolated",
                    decimals=3,
                    better="lower",
                    interval=True,
                ),
            )
        ),
        Column(
            f"frechet_distance_to_{REFERENCE}_difference",
            "the distance to the reference minus the baseline's, on the same images: its interval is paired",
            title="difference to baseline's",
            decimals=3,
            better="lower",
            interval=True,
        ),
    ),
)
