"""Are the images copies, of each other or of the reference's? By their nearest neighbours among the features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from eval.metrics.intervals import of_share
from eval.metrics.metric import REFERENCE, Column, Metric, Result, Values
from lightning_modules.run.names import BASELINE

if TYPE_CHECKING:
    from torch import Tensor

    from eval.metrics.features.extraction import Features

# Of the median distance from an image of the baseline to its nearest neighbour. Of independent images the
# distance to the nearest falls below a share s of its median with probability 1 - 2^(-s^d) in d dimensions: below 1e-5
# for five or more. Of the bundled reference's 10,000 real images two are as close to another.
NEAR = 0.1
ROWS = 1024  # images compared with all others at once


def compute(ours: Features, others: Mapping[str, Features]) -> Result:
    """Shares of images with a copy in their own set and in the reference."""
    if ours.images < 2:
        return {}, [f"no duplicates: they need 2 images, got {ours.images}"]
    own = nearest(ours.of("fid"))
    base = others.get(BASELINE)
    usual = nearest(base.of("fid")) if base is not None and base.images == ours.images else own
    median = float(usual.median())
    duplicates, at_baseline = (
        float((each < NEAR * median).double().mean()) if median else 1.0 for each in (own, usual)
    )
    values: Values = {
        "duplicate_images": duplicates,
        "duplicate_images_interval": of_share(duplicates, ours.images),
        "nearest_neighbour_distance": float(own.median()),
    }
    if median:
        values["nearest_neighbour_relative_to_baseline"] = float(own.median()) / median
    reference = others.get(REFERENCE)
    if reference is not None and reference.images is not None:
        copies = float((nearest(ours.of("fid"), reference.of("fid")) < NEAR * median).double().mean())
        values |= {"copies_of_reference": copies, "copies_of_reference_interval": of_share(copies, ours.images)}
    warnings = []
    if values["duplicate_images_interval"][0] > of_share(at_baseline, ours.images)[1]:
        warnings.append(
            f"{duplicates:.1%} of the images are near-copies of another, of the baseline's {at_baseline:.1%}: the "
            "images are less varied"
        )
    return values, warnings


def nearest(features: Tensor, others: Tensor | None = None) -> Tensor:
    """Distance (N,) from each image to the nearest of the others, by default of all other images of the set.

    Args:
        features: (N, C).
        others: (M, C).
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    centre = features.mean(0, keepdim=True)  # differences of large numbers would round small distances away
    ours = (features - centre).to(device)
    theirs = ours if others is None else (others - centre).to(device)
    found = []
    for start in range(0, len(ours), ROWS):
        distances = torch.cdist(ours[start : start + ROWS], theirs)
        if others is None:
            rows = torch.arange(len(distances), device=device)
            distances[rows, start + rows] = torch.inf
        found.append(distances.amin(1))
    return torch.cat(found).cpu()


DUPLICATES = Metric(
    name="dup",
    title="Duplicates",
    help="images that are copies of another",
    needs="features",
    compute=compute,
    columns=(
        Column.share(
            "duplicate_images",
            f"share of images with a near-copy in their own set: the nearest other image is closer than {NEAR} times "
            "the median distance between nearest neighbours in the baseline",
            title="duplicates",
            decimals=3,
            better="lower",
            interval=True,
        ),
        Column("nearest_neighbour_distance", "median distance from an image to the nearest other one", minimum=0),
        Column(
            "nearest_neighbour_relative_to_baseline",
            "that distance over the baseline's: below 1 the images crowd together, as where modes collapse",
            title="nearest neighbours",
            decimals=3,
            minimum=0,
        ),
        Column.share(
            "copies_of_reference",
            "share of images as close to an image of the reference: memorised, if that is the training set",
            title="copies of the reference",
            decimals=3,
            better="lower",
            interval=True,
        ),
    ),
)
