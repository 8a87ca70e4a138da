"""From a folder of decoded images to metrics.json."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from eval.metrics.decoding.target import Target
from eval.metrics.feature_metrics import measure_images, measure_parts, spread_of
from eval.metrics.features.extraction import Asked, Features, extract
from eval.metrics.features.networks import weights_digest
from eval.metrics.images.formats import BUNDLED, class_names
from eval.metrics.images.sets import ImagePairs
from eval.metrics.measurement import Measurement, References
from eval.metrics.metric import REFERENCE, ArmTables, Metric, Result
from eval.metrics.pairing import perceptual
from eval.metrics.registry import metrics_that_need
from lightning_modules.data.class_names import IMAGENET_CLASSES, imagenet_names
from lightning_modules.run.environment import describe_environment
from lightning_modules.run.finished import FinishedArm, FinishedRun
from lightning_modules.run.names import BASELINE, METRICS
from sdvar.audit import Scores

OF_REFERENCE = ("is",)  # metrics of the reference's own images
REFUTED = 1e-3  # p-value of the audit below which an arm is not what it promises


def measure_run(
    measurement: Measurement,
    config: Mapping[str, Any],
    record: FinishedRun,
    references: References,
    target: Target | str,
) -> dict[str, Any]:
    """Measures every arm and writes metrics.json.

    Args:
        measurement: what to measure.
        config: content of the run's config.yaml.
        record: of the run.
        references: as `prepare_measuring` returned them.
        target: to score the tokens with; or why there is none, in words.

    Returns:
        The content of metrics.json.

    Raises:
        ValueError: an arm's images cannot be measured.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "tables"):
        arms = {arm.name: _measure_tables(record, arm) for arm in record.arms}
    of_reference: dict[str, Any] = {}
    for place, network in enumerate(measurement.networks):
        reference = references.get(network["feature_extractor"])
        found = _measure_features(measurement, network, record, list(arms), reference, seconds)
        for name, (values, warnings) in found.items():
            _add_network(arms[name], values, warnings, first=not place)
        if reference is not None:
            with _timed(seconds, "metrics"):
                _add_network(of_reference, _measure_reference(measurement, network, reference), first=not place)
    for metric in metrics_that_need("pairs", measurement.metrics):
        with _timed(seconds, "pairs"):
            for arm in _paired(record):
                _add(arms[arm.name], *metric.compute(ImagePairs(record.folder, arm.name)))
    for metric in metrics_that_need("perceptual", measurement.metrics):
        weights = perceptual.check_weights(measurement.lpips_weights)
        with _timed(seconds, "pairs"):
            for arm in _paired(record):
                _add(arms[arm.name], *metric.compute(ImagePairs(record.folder, arm.name), weights))
    for metric in metrics_that_need("scores", measurement.metrics):
        with _timed(seconds, "scores"):
            for arm in record.arms:
                _add(arms[arm.name], *_measure_scores(metric, target, record, arm, measurement))
    wall = {**record.seconds, **seconds, "measure": sum(seconds.values())}
    wall["total"] = sum(value for name, value in wall.items() if name in ("prepare", "decode", "measure"))
    metrics = {
        "arms": arms,
        "reference": of_reference,
        "environment": record.environment,
        "measured_on": _measured_on(measurement),
        "config": dict(config),
        "wall_seconds": wall,
        "class_names": _class_names(measurement.reference, record),
        "batch_size": record.batch_size,
        "patch_nums": record.patch_nums,
    }
    if record.at_batch_one:
        metrics["speculation_at_batch_1"] = record.at_batch_one
    record.folder.write(METRICS, json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    return metrics


def _paired(record: FinishedRun) -> list[FinishedArm]:
    """The arms whose images have the baseline's seeds."""
    has_baseline = any(arm.name == BASELINE for arm in record.arms)
    return [arm for arm in record.arms if has_baseline and arm.name != BASELINE and not arm.reseed]


def table_values(record: FinishedRun, arm: FinishedArm) -> dict[str, Any]:
    """The metrics that follow from an arm's tables alone."""
    values: dict[str, Any] = {}
    tables = _tables(record, arm)
    for metric in metrics_that_need("tables"):
        values |= metric.compute(tables)[0]
    return values


def _tables(record: FinishedRun, arm: FinishedArm) -> ArmTables:
    return ArmTables(
        arm=arm,
        rows=record.folder.manifest(arm.name).read(),
        batches=record.folder.batches(arm.name).read(),
        length=record.length,
        batch_size=record.batch_size,
        precision=record.precision,
    )


def _measure_tables(record: FinishedRun, arm: FinishedArm) -> dict[str, Any]:
    """What an arm is, and what its tables say."""
    tables = _tables(record, arm)
    values: dict[str, Any] = {
        "strategy": arm.text,
        "kind": arm.kind,
        "arm": arm.config,
        **{name: arm.config[name] for name in ("draft", "sampling") if name in arm.config},
        "lossless": arm.lossless,
        "exact": arm.exact,
        "images": len(tables.rows),
        "warnings": list(arm.warnings),
    }
    if arm.guidance_inside:
        values["guidance_inside"] = arm.guidance_inside
    if arm.name in record.class_prefix:
        values["seconds_of_class_prefix"] = record.class_prefix[arm.name]
    for metric in metrics_that_need("tables"):
        _add(values, *metric.compute(tables))
    return values


def _measure_scores(
    metric: Metric, target: Target | str, record: FinishedRun, arm: FinishedArm, measurement: Measurement
) -> Result:
    if isinstance(target, str):
        return {}, [f"no likelihood: {target}"]
    repeats = measurement.repeats
    parts, missing = target.score(record, arm.name, measurement.likelihood_images, repeats)
    values, warnings = metric.compute(Scores.joined(parts)) if parts else ({}, [])
    if repeats > 1 and parts:
        spread = spread_of([metric.compute(part)[0] for part in parts], metric)
        values["repeats"] = {"count": repeats, "images": record.images // repeats} | spread
    if arm.lossless and values.get("likelihood_smallest_p_value", 1) < REFUTED:
        warnings.append(
            f"likelihood: the tokens are not draws from the target (p = {values['likelihood_smallest_p_value']:.1e}): "
            "the arm is not lossless here"
        )
    if missing:
        warnings.append(f"likelihood: the tokens of {missing:,} images are missing or damaged, and are left out")
    return values, warnings


def _add(arm: dict[str, Any], values: dict[str, Any], warnings: list[str]) -> None:
    """Adds what a metric computed to an arm."""
    if "repeats" in values:
        values = values | {"repeats": arm.get("repeats", {}) | values["repeats"]}
    arm |= values
    if warnings:
        arm["warnings"] += warnings


def _measure_features(
    measurement: Measurement,
    network: Mapping[str, Any],
    record: FinishedRun,
    arms: list[str],
    reference: Features | None,
    seconds: dict[str, float],
) -> dict[str, Result]:
    """The metrics on a network's features, by arm."""
    names, repeats = measurement.metrics, measurement.repeats
    found: dict[str, Result] = {}
    baseline = None
    for name in sorted(arms, key=lambda name: name != BASELINE):  # its features are kept for the others
        with _timed(seconds, "features"):
            ours = extract(record.folder.path / name, **network, quiet=measurement.quiet)
            ours = replace(ours, asked=_asked(record, name))
        others = {BASELINE: baseline, REFERENCE: reference}
        others = {which: other for which, other in others.items() if other is not None}
        with _timed(seconds, "metrics"):
            values = measure_images(ours, metrics=names, **others, **network)
            warnings = values.pop("warnings")
            if repeats > 1:
                parts = measure_parts(ours, others, repeats, network, names, warnings)
                warnings, values = warnings + parts.pop("warnings"), values | parts
        found[name] = values, warnings
        baseline = ours if name == BASELINE else baseline
    return found


def _asked(record: FinishedRun, arm: str) -> Asked:
    rows = record.folder.manifest(arm).read()  # in the order in which its images are read
    labels, seeds = (tuple(int(row[name]) for row in rows) for name in ("label", "seed"))
    return Asked(labels, seeds, record.num_classes)


def _measure_reference(measurement: Measurement, network: Mapping[str, Any], reference: Features) -> dict[str, Any]:
    """The metrics of the reference's images that compare with nothing else."""
    if reference.images is None:
        return {"source": measurement.reference}
    names = [name for name in measurement.metrics if name in OF_REFERENCE]
    measured = measure_images(reference, metrics=names, **network)
    measured.pop("warnings")
    return {"source": measurement.reference, **measured}


def _add_network(
    measured: dict[str, Any], values: dict[str, Any], warnings: Sequence[str] = (), *, first: bool
) -> None:
    """Adds what a network gave: the first one's among all metrics, those of further ones under their names."""
    if first:
        return _add(measured, values, list(warnings))
    name = values.get("feature_extractor")
    if name is None:  # a reference of statistics alone
        return None
    of_all = ("source", "images", "feature_extractor")
    own = {key: value for key, value in values.items() if key not in of_all}
    measured.setdefault("networks", {})[name] = own
    return _add(measured, {}, [f"{name}: {text}" for text in warnings])


def _measured_on(measurement: Measurement) -> dict[str, Any]:
    """The machine that measures: not always the one that decoded."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = {network["feature_extractor"]: weights_digest(**network) for network in measurement.networks}
    return describe_environment(device, torch.get_num_threads(), weights)


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Adds the time of its block to a phase."""
    started = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - started


def _class_names(reference: str | None, record: FinishedRun) -> list[str] | None:
    """Names of the classes: the reference's if it has as many, a bundled pair's own, ImageNet's for 1,000 classes."""
    bundled = isinstance(record.source, str) or "pair" in (record.source or {})
    for source in (reference, BUNDLED if bundled else None):
        if source and len(names := class_names(source)) == record.num_classes:
            return names
    return imagenet_names() if record.num_classes == IMAGENET_CLASSES else None
