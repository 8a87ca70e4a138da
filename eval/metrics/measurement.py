"""What to measure on a run, and whether all that it takes is there."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from eval.metrics.decoding import likelihood
from eval.metrics.features.extraction import Features, extract
from eval.metrics.features.extractors import BUNDLED_EXTRACTOR, BUNDLED_IMAGE_SIZE
from eval.metrics.features.networks import check_feature_extractor, load_network, parse_networks
from eval.metrics.features.published import INCEPTION
from eval.metrics.pairing import perceptual
from eval.metrics.registry import metrics_that_need

References = dict[str, Features]  # by network


@dataclass(frozen=True)
class Measurement:
    """What to measure on a run, and how.

    Attributes:
        metrics: names in `eval.metrics.registry`.
        reference: see `eval.metrics.images.formats.open_source`; None without.
        feature_extractor, feature_extractor_weights: see `eval.metrics.features.networks.parse_networks`.
        repeats: equal parts to measure on their own too.
        likelihood_images: of each arm to score at most.
        lpips_weights: file of the network below LPIPS.
        resize: bring the reference's images to the size of the run's.
        no_cache: extract the reference's features anew, and keep none.
        quiet: no progress lines.
    """

    metrics: list[str]
    reference: str | None
    feature_extractor: str | list[str] | None
    feature_extractor_weights: str | list[str] | None
    repeats: int = 1
    likelihood_images: int = likelihood.IMAGES
    lpips_weights: str | None = None
    resize: bool = False
    no_cache: bool = False
    quiet: bool = False

    @classmethod
    def of(cls, options: Any) -> Measurement:
        """From the options of a command that have the same names."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})

    @property
    def networks(self) -> list[dict[str, Any]]:
        """The feature networks, each as arguments; none where no metric needs one."""
        return parse_networks(self.feature_extractor, self.feature_extractor_weights) if self.needs_features else []

    @property
    def needs_features(self) -> bool:
        """Whether one of the metrics needs a feature network."""
        return bool(metrics_that_need("features", self.metrics))


def prepare_measuring(measurement: Measurement, image_size: int) -> References:
    """Checks what the metrics need, the reference by reading all of it: better now than after hours of decoding.

    Args:
        measurement: what to measure.
        image_size: side of the run's images.

    Returns:
        Features of the reference, if there is one, by network.

    Raises:
        ValueError: a feature extractor, its weights or the reference are invalid.
    """
    if metrics_that_need("perceptual", measurement.metrics):
        perceptual.load(perceptual.check_weights(measurement.lpips_weights))
    networks = measurement.networks
    for network in networks:
        check_feature_extractor(**network)
        if network["feature_extractor"] == BUNDLED_EXTRACTOR and image_size != BUNDLED_IMAGE_SIZE:
            raise ValueError(
                f"feature_extractor: {BUNDLED_EXTRACTOR} measures images of {BUNDLED_IMAGE_SIZE} x "
                f"{BUNDLED_IMAGE_SIZE}, these are {image_size} x {image_size}; use {INCEPTION}"
            )
    references: References = {}
    side = image_size if measurement.resize else None
    kept, quiet = not measurement.no_cache, measurement.quiet
    for network in networks:
        if measurement.reference:
            features = extract(measurement.reference, **network, resize=side, keep=kept, quiet=quiet)
            references[network["feature_extractor"]] = features
        else:
            load_network(**network)
    return references
