"""What a run's folder tells about its decoding, without any model."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import sdvar
from eval.cli.arms import build_arms
from lightning_modules.arm import BASELINE, Arm
from lightning_modules.data.class_lists import parse_ranges
from lightning_modules.run.folder import RunFolder, image_file

DECODING = "decoding.json"  # written by eval/fid.py: the machines that decoded, how long it took
RESEEDED = ", reseeded"  # how settings.yaml marks an arm with other seeds
NAMED = 3  # missing files that an error names


@dataclass(frozen=True)
class RunRecord:
    """A run that is complete: every arm has all of its images.

    Attributes:
        folder: where it lies.
        arms: how it decoded.
        source: a bundled pair's name, or the files by model.
        images: number of images of each arm.
        batch_size: images decoded together.
        precision: of the models.
        patch_nums: sides of the scales; None where neither settings.yaml, decoding.json nor metrics.json tell.
        num_classes: of the models; None likewise.
        environment: the machine that decoded last, see `lightning_modules.run.environment`; device and threads alone
            likewise.
        seconds: what loading ("prepare") and decoding ("decode") took, all sessions together.
    """

    folder: RunFolder
    arms: list[Arm]
    source: Any
    images: int
    batch_size: int
    precision: str
    patch_nums: list[int] | None
    num_classes: int | None
    environment: dict[str, Any]
    seconds: dict[str, float]

    @property
    def length(self) -> int | None:
        """Tokens of an image; a baseline of an earlier version's run tells it too."""
        if self.patch_nums:
            return sum(side * side for side in self.patch_nums)
        rows = self.folder.manifest(BASELINE).read()
        return int(rows[0]["target_tokens"]) if rows else None


def load_record(out: Path | str) -> RunRecord:
    """Reads a finished run's folder.

    Raises:
        ValueError: there is no run, or it is incomplete; names what is missing.
    """
    folder = RunFolder(out)
    settings = _read(folder.path / "settings.yaml")
    if not settings.get("arms"):
        raise ValueError(f"out: {folder.path} holds no run (no settings.yaml that lists its arms)")
    lacking = missing(folder, settings)
    if lacking:
        raise ValueError(
            f"out: {folder.path} is incomplete: {'; '.join(lacking)}; run the command that began it again, it decodes "
            "what is missing"
        )
    decoding, earlier = _read(folder.path / DECODING), _read(folder.path / "metrics.json")
    sessions = decoding.get("sessions") or []
    seconds = {
        phase: sum(session[phase] for session in sessions if session.get(phase) is not None)
        for phase in ("prepare", "decode")
    }
    if not sessions:
        seconds = {name: value for name, value in earlier.get("wall_seconds", {}).items() if name == "decode"}
    return RunRecord(
        folder=folder,
        arms=arms_of(settings),
        source=settings.get("pair"),
        images=len(folder.manifest(next(iter(settings["arms"]))).read()),
        batch_size=settings["batch_size"],
        precision=settings["precision"],
        patch_nums=settings.get("patch_nums") or decoding.get("patch_nums") or earlier.get("patch_nums"),
        num_classes=settings.get("num_classes")
        or decoding.get("num_classes")
        or len(earlier.get("class_names") or ())
        or None,
        environment=sessions[-1]["environment"] if sessions else earlier.get("environment") or _bare(settings),
        seconds=seconds,
    )


def _bare(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What settings.yaml alone tells of the machine."""
    weights = {"weights_sha256": settings["weights"]} if "weights" in settings else {}
    return {"device": settings["device"], "threads": settings["engine"]["threads"], **weights}


def missing(folder: RunFolder, settings: Mapping[str, Any]) -> list[str]:
    """What a run lacks, in words, one entry an arm; empty for a complete run."""
    indices = _indices(settings)
    lacking = []
    for arm in settings["arms"]:
        where = folder.path / arm
        if any(where.glob("*.rank*.csv")):
            lacking.append(f"{arm} has tables that were not merged (the run is going on, or was interrupted)")
            continue
        files = {int(row["index"]): row["file"] for row in folder.manifest(arm).read()}
        expected = indices if indices is not None else range(max(files, default=-1) + 1)
        absent = [files.get(i) or image_file(i) for i in expected if not (i in files and (where / files[i]).is_file())]
        batches = {int(row["batch"]) for row in folder.batches(arm).read()}
        timed = sum(batch not in batches for batch in range(-(-len(expected) // settings["batch_size"])))
        if not expected:
            lacking.append(f"{arm} has no images")
        elif absent:
            names = ", ".join(absent[:NAMED]) + (", …" if len(absent) > NAMED else "")
            lacking.append(f"{arm} lacks {len(absent)} of {len(expected)} images ({names})")
        elif timed:
            lacking.append(f"{arm}/batches.csv lacks {timed} batches")
    return lacking


def _indices(settings: Mapping[str, Any]) -> Sequence[int] | None:
    """The images that a run should have; None if settings.yaml does not tell."""
    if "images" in settings:
        return range(settings["images"])
    labels = settings.get("labels")
    if isinstance(labels, dict):  # a file that gives the images one by one
        return parse_ranges(labels["index"])
    return range(len(labels) * settings["images_per_class"]) if isinstance(labels, list) else None


def arms_of(settings: Mapping[str, Any]) -> list[Arm]:
    """The arms of settings.yaml, where each stands as its strategy's text, such as `Speculative(gamma=2, …)`.

    An arm with a draft or a sampling of its own is a mapping with that text under `strategy`.

    Raises:
        ValueError: an arm's text is none, or names what this version does not have.
    """
    configs = {}
    for name, made_with in settings["arms"].items():
        own = made_with if isinstance(made_with, dict) else {"strategy": made_with}
        text = own["strategy"]
        try:
            config = _as_config(ast.parse(text.removesuffix(RESEEDED), mode="eval").body)
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"settings.yaml: the arm {name!r} cannot be read from {text!r} ({error})") from None
        configs[name] = config | {key: own[key] for key in ("draft", "sampling") if key in own}
        configs[name] |= {"reseed": True} if text.endswith(RESEEDED) else {}
    return [arm for arm in build_arms(configs, _sampling(settings)) if arm.name in configs]


def _sampling(settings: Mapping[str, Any]) -> sdvar.Sampling | None:
    """The run's sampling; None where an earlier version did not note it."""
    return sdvar.Sampling(**settings["sampling"]) if "sampling" in settings else None


def earlier_arms(folder: RunFolder, arms: Sequence[Arm]) -> list[Arm]:
    """Arms that a folder holds beside those of a run that adds to it: its report shows them too.

    Raises:
        ValueError: one of them is incomplete, and would stay so.
    """
    names = {arm.name for arm in arms}
    others = {name: made_with for name, made_with in folder.arms().items() if name not in names}
    settings = _read(folder.path / "settings.yaml") | {"arms": others}
    lacking = missing(folder, settings) if others else []
    if lacking:
        raise ValueError(
            f"out: {folder.path} holds points that the grid no longer has, and not all of their images: "
            f"{'; '.join(lacking)}; put them back into the grid, or remove their folders to give them up"
        )
    return arms_of(settings) if others else []


def _as_config(node: ast.expr) -> Any:
    """An expression as a config states it: a call becomes class_path and init_args, anything else must be a literal."""
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.args:
            raise ValueError("expected a class of sdvar with named arguments")
        arguments = {keyword.arg: _as_config(keyword.value) for keyword in node.keywords}
        return {"class_path": node.func.id, "init_args": arguments}
    return ast.literal_eval(node)


def start_session(folder: RunFolder, environment: Mapping, prepare: float, overwrite: bool) -> None:
    """Notes who decodes, before decoding; nothing if all images are there already.

    Args:
        folder: of the run, open.
        environment: of this machine.
        prepare: seconds that loading took.
        overwrite: the run starts afresh.
    """
    settings = _read(folder.path / "settings.yaml")
    record = {} if overwrite else _read(folder.path / DECODING)
    if not missing(folder, settings):
        return
    sessions = [*record.get("sessions", []), {"environment": dict(environment), "prepare": prepare, "decode": None}]
    folder.write(DECODING, json.dumps({"sessions": sessions}, indent=2) + "\n")


def end_session(folder: RunFolder, decode: float) -> None:
    """Notes how long decoding took, if this process began a session.

    Args:
        folder: of the run.
        decode: seconds.
    """
    record = _read(folder.path / DECODING)
    if record.get("sessions") and record["sessions"][-1]["decode"] is None:
        record["sessions"][-1]["decode"] = decode
        folder.write(DECODING, json.dumps(record, indent=2) + "\n")


def _read(file: Path) -> dict[str, Any]:
    """A YAML or JSON file's mapping; empty if there is no such file."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text()) if file.suffix == ".json" else yaml.safe_load(file.read_text())
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} cannot be read: it holds no mapping")
    return content
