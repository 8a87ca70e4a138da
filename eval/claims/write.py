"""Writes the claim of a run that has been measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.claims.digests import image_records, images_digest, manifest_digest, short_png, short_tokens
from eval.metrics.registry import columns
from lightning_modules.columns import PER_IMAGE
from lightning_modules.data.label_ranges import as_ranges
from lightning_modules.run.contents import read_settings
from lightning_modules.run.finished import FinishedArm, FinishedRun
from lightning_modules.run.names import CLAIM
from sdvar.checkpoints import sha256
from sdvar.drafts import PREFIX

MARKER, VERSION = "sdvar_claim", 1  # the first entry of a claim
MODELS = ("draft", "target", "tokenizer")
# of a machine; what it was called with, where and when are not part of a claim
MACHINE = ("device", "processor", "gpu", "threads", "python", "versions", "git_revision", "dtype", "kernels")
NETWORK = ("feature_extractor", "feature_extractor_sha256")


def write_claim(run: FinishedRun, metrics: Mapping[str, Any]) -> Path:
    """Writes claim.json into the folder of a run.

    Args:
        run: that has been measured.
        metrics: the content of its metrics.json.

    Raises:
        ValueError: arms of the run have other images than each other.
    """
    run.folder.write(CLAIM, json.dumps(build_claim(run, metrics), indent=2, allow_nan=False) + "\n")
    return run.folder.path / CLAIM


def build_claim(run: FinishedRun, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The content of claim.json, see `eval.claims.schema`; without any path of this machine."""
    settings = read_settings(run.folder.path) or {}
    images: dict[str, list[int]] = {}
    arms = {}
    for arm in run.arms:
        decoded, texts = _images(run, arm.name)
        images = images or decoded
        offsets = {ours - theirs for ours, theirs in zip(decoded["seed"], images["seed"])}
        if len(offsets) > 1 or any(decoded[name] != images[name] for name in ("index", "label")):
            raise ValueError(f"{run.folder.manifest(arm.name).path}: its images are not those of {run.arms[0].name}")
        arms[arm.name] = {
            **_described(arm, settings["arms"][arm.name]),
            "seed_offset": offsets.pop(),
            "figures": figures_of(metrics["arms"][arm.name]),
            **texts,
        }
    return {
        MARKER: VERSION,
        "models": _models(run),
        "patch_nums": run.patch_nums,
        "num_classes": run.num_classes,
        "images": {
            "count": run.images,
            "sha256": images_digest(images["index"], images["label"], images["seed"]),
            "index": as_ranges(images["index"]),
            "label": " ".join(map(str, images["label"])),
            "seed": " ".join(map(str, images["seed"])),
        },
        "seed": settings["seed"],
        "sampling": run.sampling,
        "batch_size": run.batch_size,
        "precision": run.precision,
        "device": settings["device"],
        "engine": settings["engine"],
        "environment": _machine(run.environment),
        "measured_on": _machine(metrics["measured_on"]),
        "reference": _reference(metrics),
        "arms": arms,
    }


def _images(run: FinishedRun, arm: str) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Index, label and seed of an arm's images, and what the claim says of each of them, as texts."""
    images: dict[str, list[int]] = {"index": [], "label": [], "seed": []}
    said: dict[str, list[str]] = {name: [] for name in ("png", "tokens", *PER_IMAGE)}
    rows = []
    for record in image_records(run, arm):
        for name, values in images.items():
            values.append(getattr(record, name))
        counts = dict(zip(PER_IMAGE, map(str, record.counts)))
        digests = {"png": short_png(record.sha256), "tokens": short_tokens(record.tokens, run.patch_nums)}
        for name, value in (digests | counts).items():
            said[name].append(value)
        rows.append(record.row)
    return images, {"manifest_sha256": manifest_digest(rows), **{name: " ".join(of) for name, of in said.items()}}


def portable(source: str) -> str:
    """What a file is called, without where it lies; a file of the hub keeps its address."""
    if source.startswith(("hf://", PREFIX)):
        return source
    file, colons, path = source.partition("::")
    return Path(file).name + colons + path


def _models(run: FinishedRun) -> dict[str, Any]:
    """The bundled pair's name, and each model's file and digest."""
    source = run.source if isinstance(run.source, dict) else {"pair": run.source} if run.source else {}
    models: dict[str, Any] = {"pair": source["pair"]} if source.get("pair") else {}
    for name in MODELS:
        about = {"name": portable(str(source[name]))} if source.get(name) else {}
        about |= {"sha256": run.weights[name]} if name in run.weights else {}
        models |= {name: about} if about else {}
    return models


def _described(arm: FinishedArm, described: Mapping[str, Any]) -> dict[str, Any]:
    """How an arm decodes: the strategy as a config states it, with what was chosen where gamma is "auto"."""
    config = dict(arm.config)
    resolved = config.pop("resolved", None)
    config |= resolved if isinstance(resolved, dict) else {}
    if config.get("draft"):
        config["draft"] = portable(config["draft"])
    digests = {name: described[name] for name in ("draft_sha256", "source_sha256") if described.get(name)}
    shown = {"text": arm.text, "kind": arm.kind, "lossless": arm.lossless, "exact": arm.exact}
    return {"strategy": config, **digests, **shown}


def figures_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of an arm with their intervals, as metrics.json has them; those of further networks by name."""
    keys = [key for column in columns() for key in (column.key, column.interval_key)] + [*NETWORK]
    figures = {key: values[key] for key in keys if key in values}
    networks = {name: figures_of(of_network) for name, of_network in values.get("networks", {}).items()}
    return figures | ({"networks": networks} if networks else {})


def _machine(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: environment[name] for name in MACHINE if name in environment}


def _reference(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The reference that the figures compare with; the digest is of a file, a folder has none."""
    reference = dict(metrics["reference"])
    source = reference.pop("source", None)
    if source is None:
        return {}
    file = Path(source)
    digest = {"sha256": sha256(file)} if file.is_file() else {}
    images = {"images": reference["images"]} if "images" in reference else {}
    return {"name": portable(source), **digest, **images, "figures": figures_of(reference)}
