"""A claim beside the run that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval.claims.digests import ImageRecord, image_records, manifest_digest, short_png, short_tokens
from eval.claims.read import Claim, ClaimedArm
from lightning_modules.run.contents import read_settings
from lightning_modules.run.finished import FinishedRun, read_run
from lightning_modules.run.formats.png import WHOLE, condition
from lightning_modules.run.formats.records import read_record
from lightning_modules.run.formats.rows import image_file
from lightning_modules.run.names import METRICS

ALONE = "none"  # in place of a folder
Records = dict[int, ImageRecord]


def run_of(claim: Claim, given: str | None) -> FinishedRun | None:
    """The run of a claim: in the folder that is given, else around the claim; None where there is none.

    Raises:
        ValueError: the folder has no run, or one that is incomplete, or has other arms or scales.
    """
    folder = claim.file.parent if given is None else Path(given)
    if given == ALONE or (given is None and read_settings(folder) is None):
        return None
    run = read_run(folder)
    try:
        read_record(folder / METRICS)
    except ValueError as error:  # before anything is decoded
        raise ValueError(f"{error}; measure the run again, or leave it out by --run {ALONE}") from None
    names = {arm.name for arm in run.arms}
    if absent := [name for name in claim.arms if name not in names]:
        raise ValueError(f"run: {folder} lacks arms of the claim: {', '.join(absent)}; --run {ALONE} does without it")
    if run.patch_nums != claim.patch_nums or run.images != len(claim.index):
        raise ValueError(
            f"run: {folder} is not the run of the claim: it has {run.images} images of the sides {run.patch_nums}, the "
            f"claim {len(claim.index)} of {claim.patch_nums}; --run {ALONE} does without it"
        )
    return run


def beside(run: FinishedRun, claim: Claim, arm: ClaimedArm, places: Sequence[int]) -> tuple[Records, list[str]]:
    """Compares an arm's tables, kept tokens and files with the claim.

    Args:
        run: of the claim.
        claim, arm: what is claimed.
        places: of the images whose files are read.

    Returns:
        What the run recorded of these images, by place; and what is not as claimed, in words.
    """
    rows, first = [], ""
    records: Records = {}
    wanted = set(places)
    for place, record in enumerate(image_records(run, arm.name)):
        rows.append(record.row)
        first = first or _differing(claim, arm, place, record)
        if place in wanted:
            records[place] = record
    found, wrong = manifest_digest(rows), []
    if found != arm.manifest_sha256:
        digests = f"SHA-256 {arm.manifest_sha256[:16]}…, found {found[:16]}…"
        wrong.append(f"the run's manifest is not the claimed one ({digests}){first}")
    files = (_differing_file(run, arm.name, record) for record in records.values())
    if said := [line for line in files if line]:
        wrong.append(f"{len(said)} of {len(records)} files are not those of the manifest; the first is {said[0]}")
    return records, wrong


def _differing(claim: Claim, arm: ClaimedArm, place: int, record: ImageRecord) -> str:
    """What the run says otherwise of an image, in words; empty if nothing."""
    facts = {
        "index": (claim.index[place], record.index),
        "label": (claim.labels[place], record.label),
        "seed": (arm.seeds[place], record.seed),
        "PNG": (arm.png[place], short_png(record.sha256)),
        "tokens": (arm.tokens[place], short_tokens(record.tokens, claim.patch_nums)),
    }
    differing = [f"{name} claimed {a}, {b} in the run" for name, (a, b) in facts.items() if a != b]
    return f"; first at image {claim.index[place]}: {', '.join(differing)}" if differing else ""


def _differing_file(run: FinishedRun, arm: str, record: ImageRecord) -> str | None:
    file = run.folder.path / arm / image_file(record.index)
    found = condition(file, record.sha256)
    return None if found == WHOLE else f"{file}, which is {found}"
