"""What the folder of a finished run says about its decoding. No model is loaded, and no class of a user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_modules.columns import PER_SCALE
from lightning_modules.data.image_list import contradiction
from lightning_modules.run.contents import check_kinds, indices_of, read_settings, why_no_run
from lightning_modules.run.folder import RunFolder
from lightning_modules.run.formats.records import REPAIR, expect
from lightning_modules.run.missing import config_of, missing
from lightning_modules.run.names import SETTINGS
from lightning_modules.run.sessions import measured_at_batch_one, read_sessions
from sdvar.guidance import guidance_from, words


@dataclass(frozen=True)
class FinishedArm:
    """An arm as settings.yaml describes it, see `lightning_modules.arms.arm.Arm.describe`.

    Attributes:
        name: of its folder.
        kind: target, draft, speculative, handoff, or the class of the strategy in lower case.
        text: the strategy as tables show it.
        config: class_path, init_args, and reseed, draft and sampling where it has its own.
        lossless, exact: what the strategy promises.
        guidance_inside: of its draft, in words; None where it has none.
        warnings: what was said of it before it decoded.
    """

    name: str
    kind: str
    text: str
    config: dict[str, Any]
    lossless: bool
    exact: bool
    guidance_inside: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def reseed(self) -> bool:
        """Whether it decoded with other seeds."""
        return self.config.get("reseed", False)


@dataclass(frozen=True)
class FinishedRun:
    """A run that is complete: every arm has all of its images.

    Attributes:
        folder: where it lies.
        arms: how it decoded.
        source: a bundled pair's name, or the files by model; None for models that were in memory.
        images: number of images of each arm.
        batch_size: images decoded together.
        precision: of the models.
        patch_nums: sides of the scales.
        num_classes: of the models.
        sampling: guidance and filters, as arguments of `sdvar.Sampling`.
        weights: digests of the models' files by the model's name; none for models that were in memory.
        environment: the machine that decoded last, see `lightning_modules.run.environment`; device and threads alone
            for a run of `python -m lightning_modules predict`.
        class_prefix: seconds that the first process spent on the class prefixes of an arm's models, by arm, when
            it first decoded.
        seconds: what loading ("prepare") and decoding ("decode") took, all sessions together.
        at_batch_one: whether speculation pays at batch size 1, see `eval.main_job.batch_one`; None where nobody asked.
    """

    folder: RunFolder
    arms: list[FinishedArm]
    source: Any
    images: int
    batch_size: int
    precision: str
    patch_nums: list[int]
    num_classes: int
    sampling: dict[str, Any]
    weights: dict[str, str]
    environment: dict[str, Any]
    seconds: dict[str, float]
    class_prefix: dict[str, float]
    at_batch_one: dict[str, Any] | None = None

    @property
    def length(self) -> int:
        """Tokens per image, L."""
        return sum(side * side for side in self.patch_nums)


def read_run(out: Path | str) -> FinishedRun:
    """Reads the folder of a finished run.

    Raises:
        ValueError: there is no run, or it is incomplete; names what is missing.
    """
    folder = RunFolder(out)
    settings = read_settings(folder.path)  # also checks the names of the arms, which are read as folders
    if not settings:
        raise ValueError(f"out: {folder.path} contains no run ({why_no_run(folder.path)})")
    if not settings["arms"]:
        raise ValueError(f"out: {folder.path} contains no arms")
    check_kinds(folder.path, settings["arms"])
    lacking = missing(folder, settings, settings["arms"])
    if lacking:
        raise ValueError(
            f"out: {folder.path} is incomplete: {'; '.join(lacking)}; run the command that began it again, it decodes "
            "what is missing"
        )
    sessions = read_sessions(folder)
    file = folder.path / SETTINGS
    expect(file, settings, patch_nums=list, num_classes=int, engine=dict, pair=(str, dict, type(None)))
    expect(file, settings, sampling=dict, weights=(dict, type(None)))
    if not all(type(side) is int and side > 0 for side in settings["patch_nums"]):
        raise ValueError(f"{file}: patch_nums: expected ints >= 1, got {settings['patch_nums']}")
    for name in settings["arms"]:
        _check_scales(folder, name, settings["patch_nums"])
        _check_batches(folder, name, settings)
    arms = [_arm(file, name, described) for name, described in settings["arms"].items()]
    for arm in arms:
        table = folder.manifest(arm.name)
        if problem := contradiction(settings, arm.reseed, table.read()):
            raise ValueError(f"{table.path}, {problem}; {REPAIR}")
    return FinishedRun(
        folder=folder,
        arms=arms,
        source=settings.get("pair"),
        images=len(indices_of(settings)),
        batch_size=settings["batch_size"],
        precision=settings["precision"],
        patch_nums=settings["patch_nums"],
        num_classes=settings["num_classes"],
        sampling=settings["sampling"],
        weights=settings.get("weights") or {},
        environment=sessions[-1]["environment"] if sessions else _bare_environment(file, settings),
        seconds={
            phase: sum(session[phase] for session in sessions if session[phase] is not None)
            for phase in ("prepare", "decode")
        },
        class_prefix={name: taken for session in sessions[::-1] for name, taken in session["class_prefix"].items()},
        at_batch_one=measured_at_batch_one(sessions),
    )


def _check_batches(folder: RunFolder, arm: str, settings: Mapping[str, Any]) -> None:
    """Raises ValueError if batches are of other sizes than the settings say: their times would be those of others."""
    for row in folder.batches(arm).read():
        if int(row["images"]) != settings["batch_size"]:  # the last batch is filled up
            raise ValueError(
                f"{folder.batches(arm).path}, batch {row['batch']}: images: expected {settings['batch_size']}, as "
                f"batch_size in {SETTINGS} has it, got {row['images']}; put the batch_size back that the run began with"
            )


def _check_scales(folder: RunFolder, arm: str, patch_nums: Sequence[int]) -> None:
    """Raises ValueError if an arm's tables do not fit the scales of the settings."""
    length, compared = sum(side * side for side in patch_nums), set()
    for row in folder.batches(arm).read():
        scales = len(row[PER_SCALE[0]].split())
        if scales != len(patch_nums):
            raise ValueError(
                f"{folder.batches(arm).path}, batch {row['batch']}: {PER_SCALE[0]}: expected counts of "
                f"{len(patch_nums)} scales, as many as patch_nums in {SETTINGS} has, got {scales}"
            )
    for row in folder.manifest(arm).read():
        agreeing = row["agreeing_tokens"]
        compared.add(agreeing != "")
        if len(compared) > 1 or int(agreeing or 0) > length:
            expected = f"an int from 0 to {length:,}" if len(compared) == 1 else "a number in all rows, or in none"
            raise ValueError(
                f"{folder.manifest(arm).path}, index {row['index']}: agreeing_tokens: expected {expected}, got "
                f"{agreeing!r}"
            )


def _arm(file: Path, name: str, described: Mapping[str, Any]) -> FinishedArm:
    where = f"{file}: arms: {name}"
    expect(where, described, kind=str, text=str, lossless=bool, exact=bool, class_path=str, init_args=dict)
    expect(where, {"reseed": False} | dict(described), reseed=bool)
    expect(where, described, draft=(str, type(None)), sampling=(dict, type(None)))
    expect(where, described, guidance_inside=(dict, type(None)), warnings=(list, type(None)))
    shown = {key: described[key] for key in ("kind", "text", "lossless", "exact")}
    inside, warnings = described.get("guidance_inside"), described.get("warnings") or ()
    try:
        inside = words(guidance_from(inside)) if inside else None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return FinishedArm(
        name, config=config_of(described), guidance_inside=inside, warnings=tuple(map(str, warnings)), **shown
    )


def _bare_environment(file: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What settings.yaml alone says about the machine."""
    expect(f"{file}: engine", settings["engine"], threads=(int, type(None)))
    weights = {"weights_sha256": settings["weights"]} if "weights" in settings else {}
    return {"device": settings["device"], "threads": settings["engine"]["threads"], **weights}
