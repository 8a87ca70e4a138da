"""Kernel distance (polynomial-kernel MMD²) to baseline and reference, by torch-fidelity; on Inception-v3 it is KID."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from eval.metrics.intervals import around, standard_error
from eval.metrics.metric import REFERENCE, Column, Metric, Result
from lightning_modules.run.names import BASELINE

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from eval.metrics.features.extraction import Features

# Named in full because torch-fidelity drops a misspelt keyword silently and takes its default instead.
SETTINGS = {"kid_subsets": 100, "kid_subset_size": 1000, "rng_seed": 2020, "verbose": False}
MOST_COMPARED = 2000  # images of either set whose kernels to each image its influence is taken from


def compute(ours: Features, others: Mapping[str, Features]) -> Result:
    """Kernel distance to each of the others that has images."""
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_featuresdict_to_metric

    values, warnings = {}, []
    for name, other in others.items():
        if other.images is None:
            continue
        fewest, usual = min(ours.images, other.images), SETTINGS["kid_subset_size"]
        size = min(usual, fewest // 2)  # subsets of nearly all images are nearly equal, and their spread means nothing
        if size < 2:
            warnings.append(f"no kernel distance to the {name}: it needs 4 images, got {fewest}")
            continue
        if size < usual:
            warnings.append(
                f"kernel distance to the {name}: subsets of {size:,} images instead of {usual:,}, half of the "
                f"{fewest:,} available; compare it only with values of as many images"
            )
        layers = ({"kid": features.of("kid")} for features in (ours, other))
        measured = kid_featuresdict_to_metric(*layers, "kid", **SETTINGS | {"kid_subset_size": size})
        mean, subsets = measured[KEY_METRIC_KID_MEAN], measured[KEY_METRIC_KID_STD] / math.sqrt(SETTINGS["kid_subsets"])
        error = math.hypot(standard_error(_influences(ours, other, paired=name == BASELINE)), subsets)
        values |= {
            f"kernel_inception_distance_to_{name}_mean": mean,
            f"kernel_inception_distance_to_{name}_mean_interval": around(mean, error),
            f"kernel_inception_distance_to_{name}_std": measured[KEY_METRIC_KID_STD],
            f"kernel_inception_distance_to_{name}_subset_size": size,
        }
    return values, warnings


def _influences(ours: Features, other: Features, paired: bool) -> np.ndarray:
    """What each image adds to MMD² times their number, (N,), from its mean kernel to some images of either set.

    The other set is taken as it is, unless its images vary with those of the same number.
    """
    sets = [features.of("kid").double() for features in (ours, other)]
    some = [features[:MOST_COMPARED] for features in sets]

    def witness(features: Tensor) -> Tensor:
        mine, theirs = ((features @ each.T / features.shape[1] + 1).pow(3).mean(1) for each in some)
        return 2 * (mine - theirs)

    found = witness(sets[0])
    if paired and len(sets[1]) == len(sets[0]):
        found = found - witness(sets[1])
    return found.cpu().numpy()


def _columns(other: str) -> tuple[Column, ...]:
    key = f"kernel_inception_distance_to_{other}"
    return (
        Column(
            f"{key}_mean",
            f"polynomial-kernel MMD² to the {other}, mean over {SETTINGS['kid_subsets']} subsets; "
            "may be slightly below 0",
            title=f"kernel x 1000 to {other}",
            terminal=other == REFERENCE,
            decimals=3,
            scale=1000,
            spread=f"{key}_std",
            better="lower",
            interval=True,
        ),
        Column(f"{key}_std", "spread over the subsets", minimum=0),
        Column.count(f"{key}_subset_size", "images in a subset"),
    )


KERNEL_DISTANCE = Metric(
    name="kid",
    title="Kernel distance",
    help="kernel distance",
    needs="features",
    compute=compute,
    columns=(*_columns(BASELINE), *_columns(REFERENCE)),
)
