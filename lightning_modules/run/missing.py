"""What a run's arms lack: images, rows of batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning_modules.run.contents import batches_of, image_keys, indices_of, read_settings
from lightning_modules.run.folder import RunFolder
from lightning_modules.run.formats.tables import image_file
from lightning_modules.run.names import OWN

NAMED = 3  # missing files that an error names


def missing(folder: RunFolder, settings: Mapping[str, Any], arms: Iterable[str]) -> list[str]:
    """What some arms of a run lack, in words, one entry per arm; empty where all are complete.

    Args:
        folder: of the run.
        settings: what its settings.yaml holds.
        arms: names.
    """
    indices, keys, lacking = indices_of(settings), image_keys(settings), []
    for arm in arms:
        where = folder.path / arm
        if any(where.glob("*.rank*.csv")):
            lacking.append(f"{arm} has tables that were not merged (the run is going on, or was interrupted)")
            continue
        files = {int(row["index"]): row["file"] for row in folder.manifest(arm).read(keys)}
        absent = [files.get(i) or image_file(i) for i in indices if not (i in files and (where / files[i]).is_file())]
        all_batches = range(batches_of(settings))
        batches = {int(row["batch"]) for row in folder.batches(arm).read(all_batches)}
        timed = len(all_batches) - len(batches)
        if absent:
            names = ", ".join(absent[:NAMED]) + (", …" if len(absent) > NAMED else "")
            lacking.append(f"{arm} lacks {len(absent)} of {len(indices)} images ({names})")
        elif timed:
            lacking.append(f"{arm}/batches.csv lacks {timed} batches")
    return lacking


def unfinished(folder: RunFolder) -> bool:
    """Whether an arm of an open run still lacks images."""
    settings = read_settings(folder.path) or {}
    return bool(missing(folder, settings, settings["arms"]))


def other_arms(folder: RunFolder, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Configs of the arms that a folder has beside those of a run that adds to it: its report shows them too.

    Raises:
        ValueError: one of them is incomplete, and would stay so.
    """
    names = set(names)
    others = {name: config_of(described) for name, described in folder.arms().items() if name not in names}
    lacking = missing(folder, read_settings(folder.path) or {}, others) if others else []
    if lacking:
        raise ValueError(
            f"out: {folder.path} holds points that the grid no longer has, and not all of their images: "
            f"{'; '.join(lacking)}; put them back into the grid, or remove their folders to give them up"
        )
    return others


def config_of(described: Mapping[str, Any]) -> dict[str, Any]:
    """The config of an arm, from what settings.yaml says of it."""
    return {key: described[key] for key in ("class_path", "init_args", *OWN) if key in described}
