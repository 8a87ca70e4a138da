"""From a folder of decoded images to metrics.json and the report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from eval.cli.finished_run import RunRecord
from eval.cli.options import BUNDLED_REFERENCE
from eval.metrics import features
from eval.metrics.feature_metrics import measure_images, measure_parts
from eval.metrics.images import ImagePairs
from eval.metrics.metric import ArmTables
from eval.metrics.registry import metrics_that_need
from eval.report.page import write_report
from lightning_modules.arm import BASELINE, Arm
from lightning_modules.data.class_names import IMAGENET_CLASSES, imagenet_names
from lightning_modules.run.environment import describe_environment


def prepare_measuring(options: Namespace, image_size: int) -> features.Features | None:
    """Checks what the metrics will need, the reference by reading all of it: better now than after hours of decoding.

    Args:
        options: metrics, feature_extractor, feature_extractor_weights and reference.
        image_size: side of the run's images.

    Returns:
        Features of the reference, if one is asked for.

    Raises:
        ValueError: feature extractor, its weights or the reference are unfit.
    """
    if not _feature_metrics(options):
        return None
    features.check_feature_extractor(options.feature_extractor, options.feature_extractor_weights)
    if options.feature_extractor == features.BUNDLED_EXTRACTOR and image_size != features.BUNDLED_IMAGE_SIZE:
        side = features.BUNDLED_IMAGE_SIZE
        raise ValueError(
            f"feature_extractor: {options.feature_extractor} measures images of {side} x {side}, these are "
            f"{image_size} x {image_size}; use {features.INCEPTION}"
        )
    if not options.reference:
        features.load_network(**_network(options))
        return None
    return features.extract(_reference_source(options.reference), **_network(options))


def write_results(
    options: Namespace,
    config: Mapping[str, Any],
    record: RunRecord,
    reference: features.Features | None,
) -> dict[str, Any]:
    """Measures every arm and writes metrics.json and report.html.

    Args:
        options: metrics, feature_extractor, feature_extractor_weights, reference and repeats.
        config: what the run's config.yaml holds.
        record: of the run.
        reference: as `prepare_measuring` returned it.

    Returns:
        What metrics.json holds.

    Raises:
        ValueError: an arm's images cannot be measured.
    """
    folder, seconds = record.folder, {}
    with _timed(seconds, "tables"):
        arms = {arm.name: _measure_tables(record, arm) for arm in record.arms}
    measured = _measure_features(options, record, arms, reference, seconds) if _feature_metrics(options) else {}
    for metric in metrics_that_need("pairs", options.metrics):
        with _timed(seconds, "pairs"):
            for arm in record.arms:
                if BASELINE in arms and arm.name != BASELINE and not arm.reseed:
                    _add(arms[arm.name], *metric.compute(ImagePairs(folder, arm.name)))
    wall = {**record.seconds, **seconds, "measure": sum(seconds.values())}
    wall["total"] = sum(value for name, value in wall.items() if name in ("prepare", "decode", "measure"))
    metrics = {
        "arms": arms,
        "reference": measured,
        "environment": record.environment,
        "measured_on": _measured_on(options),
        "config": dict(config),
        "wall_seconds": wall,
        "class_names": _class_names(options.reference, record.num_classes),
        "batch_size": record.batch_size,
        "patch_nums": record.patch_nums,
    }
    folder.write("metrics.json", json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    write_report(folder.path)
    return metrics


def _measure_tables(record: RunRecord, arm: Arm) -> dict[str, Any]:
    """What an arm is, and what its tables say."""
    tables = ArmTables(
        arm=arm,
        rows=record.folder.manifest(arm.name).read(),
        batches=record.folder.batches(arm.name).read(),
        length=record.length,
        batch_size=record.batch_size,
        precision=record.precision,
    )
    values: dict[str, Any] = {
        "strategy": str(arm.strategy),
        **({"draft": arm.draft} if arm.draft else {}),
        **({"sampling": asdict(arm.sampling)} if arm.sampling else {}),
        "lossless": arm.lossless,
        "exact": arm.exact,
        "images": len(tables.rows),
        "warnings": [],
    }
    for metric in metrics_that_need("tables"):
        _add(values, *metric.compute(tables))
    return values


def _add(arm: dict[str, Any], values: dict[str, Any], warnings: list[str]) -> None:
    """Adds what a metric computed to an arm."""
    arm |= values
    arm["warnings"] += warnings


def _measure_features(
    options: Namespace,
    record: RunRecord,
    arms: dict[str, dict[str, Any]],
    reference: features.Features | None,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Adds the metrics on features to each arm; returns those of the reference."""
    network, wanted = _network(options), _feature_metrics(options)
    baseline = None
    for name in sorted(arms, key=lambda name: name != BASELINE):  # its features are kept for the others
        with _timed(seconds, "features"):
            ours = features.extract(record.folder.path / name, **network)
        baseline = ours if name == BASELINE else baseline
        others = {"baseline": None if name == BASELINE else baseline, "reference": reference}
        others = {which: other for which, other in others.items() if other is not None}
        with _timed(seconds, "metrics"):
            measured = [measure_images(ours, metrics=wanted, **others, **network)]
            if options.repeats > 1:
                known = measured[0]["warnings"]
                measured.append(measure_parts(ours, others, options.repeats, network, wanted, known))
        for part in measured:
            _add(arms[name], part, part.pop("warnings"))
    if reference is None or reference.images is None:
        return {}
    with _timed(seconds, "metrics"):
        measured = measure_images(reference, metrics=[name for name in wanted if name == "is"], **network)
    measured.pop("warnings")
    return {"source": options.reference, **measured}


def _feature_metrics(options: Namespace) -> list[str]:
    return [metric.name for metric in metrics_that_need("features", options.metrics)]


def _reference_source(reference: str) -> str | Path:
    return features.BUNDLED_REFERENCE if reference == BUNDLED_REFERENCE else reference


def _network(options: Namespace) -> dict[str, Any]:
    return {
        "feature_extractor": options.feature_extractor,
        "feature_extractor_weights": options.feature_extractor_weights,
    }


def _measured_on(options: Namespace) -> dict[str, Any]:
    """The machine that measured: not always the one that decoded."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = {}
    if _feature_metrics(options):
        weights[options.feature_extractor] = features.weights_digest(**_network(options))
    return describe_environment(device, torch.get_num_threads(), weights)


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Adds the time that its block takes to a phase."""
    started = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - started


def _class_names(reference: str | None, num_classes: int | None) -> list[str] | None:
    """Names of the classes: those of a reference in Parquet that has as many, else ImageNet's for 1,000 classes."""
    names = _names_of_reference(Path(_reference_source(reference))) if reference else []
    if len(names) == num_classes:
        return names
    return imagenet_names() if num_classes == IMAGENET_CLASSES else None


def _names_of_reference(source: Path) -> list[str]:
    if not source.is_file() or source.suffix != ".parquet":
        return []
    import pyarrow.parquet
    from datasets import ClassLabel, Features

    schema = Features.from_arrow_schema(pyarrow.parquet.read_schema(source))
    labels = [feature for feature in schema.values() if isinstance(feature, ClassLabel)]
    return labels[0].names if len(labels) == 1 else []
