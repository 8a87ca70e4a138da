"""From a folder of decoded images to metrics.json and the report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from eval import fidelity
from eval.environment import describe_environment
from eval.figures import arm_figures
from eval.options import BUNDLED_REFERENCE, as_config
from eval.report import write_report
from lightning_modules import pair_source
from lightning_modules.labels import ClassLabelDataModule
from lightning_modules.predictor import BASELINE, SDVARPredictor
from lightning_modules.run_folder import RunFolder

BUNDLED_IMAGE_SIZE = 32  # the bundled feature network takes no other


def prepare_measuring(options: Namespace, image_size: int) -> fidelity.Features | None:
    """Checks what the metrics will need, the reference by reading all of it: better now than after hours of decoding.

    Returns:
        Features of the reference, if distances to one are asked for.

    Raises:
        ValueError: feature extractor, its weights or the reference are unfit.
    """
    if not options.metrics:
        return None
    fidelity.check_feature_extractor(options.feature_extractor, options.feature_extractor_weights)
    if options.feature_extractor == fidelity.BUNDLED_EXTRACTOR and image_size != BUNDLED_IMAGE_SIZE:
        raise ValueError(
            f"feature_extractor: {options.feature_extractor} measures images of {BUNDLED_IMAGE_SIZE} x "
            f"{BUNDLED_IMAGE_SIZE}, these models make {image_size} x {image_size}; use inception-v3-compat"
        )
    if not options.reference or "fid" not in options.metrics:
        return None
    return fidelity.extract(_reference_source(options.reference), **_network(options))


def _reference_source(reference: str) -> Path:
    return fidelity.BUNDLED_REFERENCE if reference == BUNDLED_REFERENCE else Path(reference)


def _network(options: Namespace) -> dict[str, Any]:
    return {
        "feature_extractor": options.feature_extractor,
        "feature_extractor_weights": options.feature_extractor_weights,
    }


def write_results(
    options: Namespace,
    folder: RunFolder,
    predictor: SDVARPredictor,
    data: ClassLabelDataModule,
    reference: fidelity.Features | None,
    started: float,
    decoded: float,
) -> dict[str, Any]:
    """Measures every arm and writes metrics.json and report.html.

    Args:
        reference: as `prepare_measuring` returned it.
        started, decoded: times (`time.perf_counter`) when the command began and when all images were there.

    Returns:
        What metrics.json holds.

    Raises:
        ValueError: an arm lacks images.
    """
    pyramid = predictor.pair.pyramid
    arms = {arm.name: arm_figures(folder, arm, pyramid, data.batch_size, options.precision) for arm in predictor.arms}
    for name, figures in arms.items():
        if figures["images"] != data.images:
            raise ValueError(
                f"out: {folder.path / name} lists {figures['images']} of {data.images} images, perhaps as two runs "
                "wrote there at once; run the same command again"
            )
    measured = _measure(options, folder.path, arms, reference) if options.metrics else {}
    now = time.perf_counter()
    metrics = {
        "arms": arms,
        "reference": measured,
        "environment": describe_environment(
            options.accelerator, options.threads, pair_source.digests(predictor.source)
        ),
        "config": as_config(options),
        "wall_seconds": {"decode": decoded - started, "measure": now - decoded, "total": now - started},
        "class_names": _class_names(options.reference, predictor.pair.num_classes),
        "batch_size": data.batch_size,
        "patch_nums": list(pyramid.patch_nums),
    }
    folder.write("metrics.json", json.dumps(metrics, indent=2) + "\n")
    write_report(folder.path)
    return metrics


def _measure(
    options: Namespace, out: Path, arms: dict[str, dict[str, Any]], reference: fidelity.Features | None
) -> dict[str, Any]:
    """Adds its metrics to each arm's figures; returns those of the reference."""
    network, distances = _network(options), "fid" in options.metrics
    baseline = fidelity.extract(out / BASELINE, **network)
    for name, figures in arms.items():
        measured = fidelity.measure(
            baseline if name == BASELINE else out / name,
            baseline=baseline if distances and name != BASELINE else None,
            reference=reference,
            **network,
        )
        figures["warnings"] += _wanted_warnings(options, measured.pop("warnings"))
        figures |= _wanted(options, measured)
    if reference is None or reference.images is None:
        return {}
    measured = _wanted(options, fidelity.measure(reference, **network))
    measured.pop("warnings")
    return {"source": options.reference, **measured}


def _wanted_warnings(options: Namespace, warnings: list[str]) -> list[str]:
    return [text for text in warnings if "is" in options.metrics or "Inception Score" not in text]


def _wanted(options: Namespace, measured: dict[str, Any]) -> dict[str, Any]:
    """Without the Inception Score where it was not asked for."""
    return {key: value for key, value in measured.items() if "is" in options.metrics or "inception_score" not in key}


def _class_names(reference: str | None, num_classes: int) -> list[str] | None:
    """Names of the classes, where the reference is a Parquet file that knows them."""
    if not reference or (source := _reference_source(reference)).suffix != ".parquet":
        return None
    import pyarrow.parquet
    from datasets import ClassLabel, Features

    features = Features.from_arrow_schema(pyarrow.parquet.read_schema(source))
    labels = [feature for feature in features.values() if isinstance(feature, ClassLabel)]
    names = labels[0].names if len(labels) == 1 else []
    return names if len(names) == num_classes else None
