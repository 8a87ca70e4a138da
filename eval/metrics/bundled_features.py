"""Makes the features of the bundled reference, which are shipped: `python -m eval.metrics.bundled_features`."""

from __future__ import annotations

from eval.metrics.feature_cache import Kept
from eval.metrics.features import extract
from eval.metrics.images.formats import BUNDLED
from eval.metrics.networks import BUNDLED_EXTRACTOR

if __name__ == "__main__":
    made = extract(BUNDLED, feature_extractor=BUNDLED_EXTRACTOR)
    Kept.bundled(made.weights_sha256).write(made.layers)
