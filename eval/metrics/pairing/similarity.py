"""How similar an arm's images are to the baseline's of the same label and seed, to a feature network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from eval.metrics.intervals import around, standard_error, stated
from eval.metrics.metric import Column, Metric, Result
from lightning_modules.run.names import BASELINE

if TYPE_CHECKING:
    from eval.metrics.features.extraction import Features


def compute(ours: Features, others: Mapping[str, Features]) -> Result:
    """Cosine between the features of the two images of a seed; nothing where the seeds are others."""
    import torch

    baseline = others.get(BASELINE)
    if baseline is None or ours.asked is None or ours.asked != baseline.asked:
        return {}, []
    pairs = (features.of("fid").double() for features in (ours, baseline))
    cosines = torch.nn.functional.cosine_similarity(*pairs, dim=1).cpu().numpy()
    mean = float(cosines.mean())
    interval = stated("feature_cosine_mean", around(mean, standard_error(cosines)), len(cosines))
    return {"feature_cosine_mean": mean, **interval}, []


SIMILARITY = Metric(
    name="cosine",
    title="Similarity to the baseline's image of the same seed",
    help="feature cosine to the baseline's image of the same seed",
    needs="features",
    compute=compute,
    columns=(
        Column(
            "feature_cosine_mean",
            "cosine between the features of the image and of the baseline's, mean over all images",
            title="feature cosine",
            decimals=4,
            better="higher",
            minimum=-1.000001,
            maximum=1.000001,
            interval=True,
        ),
    ),
)
