"""Images of a run that are not as it wrote them: they are made again, or the run is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from lightning_modules.run.contents import enumerated
from lightning_modules.run.folder import RunFolder
from lightning_modules.run.formats.png import DAMAGED, REPLACED, WHOLE, condition

log = logging.getLogger("sdvar.writer")
READERS = 8  # threads that look at image files: on a network each takes its time


def drop_others(folder: RunFolder, arm: str, images: Mapping[int, tuple[int, int]]) -> None:
    """Drops the rows of a manifest that are of other images than the run's, which are made again.

    Args:
        folder: of the run.
        arm: whose manifest.
        images: label and seed by index.
    """
    rows = folder.manifest(arm).read()
    kept = [row for row in rows if images.get(int(row["index"])) == (int(row["label"]), int(row["seed"]))]
    if len(kept) < len(rows):
        others = enumerated([row["index"] for row in rows if row not in kept])
        log.warning(
            "%s: rows have another label or seed than the run, and are made again: index %s",
            folder.manifest(arm).path,
            others,
        )
        folder.manifest(arm).replace(kept)


def verify(folder: RunFolder, arms: Iterable[str]) -> None:
    """Reads every image that a manifest lists; one process does this before the others look.

    The rows of missing and of damaged images are dropped: they are made again.

    Args:
        folder: of the run.
        arms: whose images.

    Raises:
        ValueError: files are not the images that the run wrote; nothing is changed then.
    """
    kept, replaced = {}, []
    for arm in arms:
        found = _conditions(folder, arm)
        files = [(folder.path / arm / row["file"], what) for row, what in found]
        replaced += [file for file, what in files if what == REPLACED]
        for file in (file for file, what in files if what == DAMAGED):
            log.warning("%s is damaged and is made again", file)
        if any(what != WHOLE for _, what in found):
            kept[arm] = [row for row, what in found if what == WHOLE]
    if replaced:
        raise ValueError(
            f"out: {folder.path} holds images that the run did not write: {enumerated(replaced)}; remove them and "
            "they are made again, or start afresh with --overwrite"
        )
    for arm, rows in kept.items():
        folder.manifest(arm).replace(rows)


def is_whole(folder: RunFolder) -> bool:
    """Whether every image that a manifest lists is there as it was written, and nothing else needs a hand."""
    folder.check_places()
    return all(what == WHOLE for arm in folder.arms() for _, what in _conditions(folder, arm))


def _conditions(folder: RunFolder, arm: str) -> list[tuple[dict[str, str], str]]:
    """The rows of an arm's manifest, each with the condition of its image."""
    rows = folder.manifest(arm).read()
    files = [folder.path / arm / row["file"] for row in rows]
    with ThreadPoolExecutor(READERS) as pool:
        return list(zip(rows, pool.map(condition, files, [row["sha256"] for row in rows])))
