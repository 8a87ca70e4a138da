"""From a folder of decoded images to metrics.json and the report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from eval import fidelity, image_sources
from eval.environment import describe_environment
from eval.figures import arm_figures
from eval.options import as_config
from eval.report import write_report
from lightning_modules import pair_source
from lightning_modules.labels import ClassLabelDataModule
from lightning_modules.predictor import BASELINE, SDVARPredictor
from lightning_modules.run_folder import RunFolder

BUNDLED_IMAGE_SIZE = 32  # the bundled feature network takes no other


def check_measuring(options: Namespace, image_size: int) -> None:
    """Checks what the metrics will need.

    Raises:
        ValueError: feature extractor, its weights or the reference are unfit.
    """
    if not options.metrics:
        return
    fidelity.check_feature_extractor(options.feature_extractor, options.feature_extractor_weights)
    if options.feature_extractor == fidelity.BUNDLED_EXTRACTOR and image_size != BUNDLED_IMAGE_SIZE:
        raise ValueError(
            f"feature_extractor: {options.feature_extractor} measures images of {BUNDLED_IMAGE_SIZE} x "
            f"{BUNDLED_IMAGE_SIZE}, these models make {image_size} x {image_size}; use inception-v3-compat"
        )
    if options.reference and "fid" in options.metrics and image_sources.load_statistics(options.reference) is None:
        image_sources.open_images(options.reference)


def write_results(
    options: Namespace,
    folder: RunFolder,
    predictor: SDVARPredictor,
    data: ClassLabelDataModule,
    started: float,
    decoded: float,
) -> dict[str, Any]:
    """Measures every arm and writes metrics.json and report.html.

    Args:
        started, decoded: times (`time.perf_counter`) when the command began and when all images were there.

    Returns:
        What metrics.json holds.
    """
    pyramid = predictor.pair.pyramid
    arms = {arm.name: arm_figures(folder, arm, pyramid, data.batch_size) for arm in predictor.arms}
    reference = _measure(options, folder.path, arms) if options.metrics else {}
    now = time.perf_counter()
    metrics = {
        "arms": arms,
        "reference": reference,
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


def _measure(options: Namespace, out: Path, arms: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Adds its metrics to each arm's figures; returns those of the reference."""
    network = {
        "feature_extractor": options.feature_extractor,
        "feature_extractor_weights": options.feature_extractor_weights,
    }
    distances = "fid" in options.metrics
    reference = fidelity.extract(options.reference, **network) if options.reference and distances else None
    baseline = fidelity.extract(out / BASELINE, **network)
    for name, figures in arms.items():
        measured = fidelity.measure(
            baseline if name == BASELINE else out / name,
            baseline=baseline if distances and name != BASELINE else None,
            reference=reference,
            **network,
        )
        figures["warnings"] += measured.pop("warnings")
        figures |= _wanted(options, measured)
    if reference is None or reference.images is None:
        return {}
    measured = _wanted(options, fidelity.measure(reference, **network))
    measured.pop("warnings")
    return {"source": options.reference, **measured}


def _wanted(options: Namespace, measured: dict[str, Any]) -> dict[str, Any]:
    """Without the Inception Score where it was not asked for."""
    return {key: value for key, value in measured.items() if "is" in options.metrics or "inception_score" not in key}


def _class_names(reference: str | None, num_classes: int) -> list[str] | None:
    """Names of the classes, where the reference is a Parquet file that knows them."""
    if not reference or Path(reference).suffix != ".parquet":
        return None
    import pyarrow.parquet
    from datasets import ClassLabel, Features

    features = Features.from_arrow_schema(pyarrow.parquet.read_schema(reference))
    labels = [feature for feature in features.values() if isinstance(feature, ClassLabel)]
    names = labels[0].names if len(labels) == 1 else []
    return names if len(names) == num_classes else None
