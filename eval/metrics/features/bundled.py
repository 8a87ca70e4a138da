"""Makes the features of the bundled reference, which are shipped: `python -m eval.metrics.features.bundled`."""

from __future__ import annotations

from eval.metrics.features.cache import Kept
from eval.metrics.features.extraction import extract
from eval.metrics.features.extractors import BUNDLED_EXTRACTOR
from eval.metrics.images.formats import BUNDLED

if __name__ == "__main__":
    made = extract(BUNDLED, feature_extractor=BUNDLED_EXTRACTOR)
    Kept.bundled(made.weights_sha256).write(made.layers)
