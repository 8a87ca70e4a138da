"""What in a run's folder belongs to the run: the files and folders that its settings name, and nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_modules.data.label_ranges import IMAGES_LIMIT, parse_ranges
from lightning_modules.run.formats.records import REPAIR, check_plain, expect, parse
from lightning_modules.run.formats.rows import IMAGES_PER_FOLDER, image_file
from lightning_modules.run.names import ARM_NAME, FILES, LOCKS, SETTINGS
from sdvar.system.atomic import unfinished_target

MARKER = {"sdvar_run": 1}  # the first entry of settings.yaml: no other program's file has it
TYPES = {"arms": dict, "labels": (list, dict), "seed": int, "batch_size": int, "precision": str, "device": str}
TABLES = ("manifest", "batches")  # of each arm
RESTORE = "put a copy of it back, or move the folder away and begin anew"
NAMED = 3  # files that an error names


def read_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of the run in a folder, without the marker; None if there is no run in it.

    Raises:
        ValueError: they are damaged, or name an arm that could not be given.
    """
    file = folder / SETTINGS
    if file.is_symlink() or not file.is_file():
        return None
    try:
        settings = parse(file)
    except ValueError:
        return None
    if not isinstance(settings, dict) or any(settings.pop(key, None) != value for key, value in MARKER.items()):
        return None
    try:
        _check(file, settings)
    except ValueError as error:
        raise ValueError(f"out: {str(error).replace(str(file), f'{file} is damaged', 1)}; {RESTORE}") from None
    for name, made_with in settings["arms"].items():
        valid = isinstance(name, str) and ARM_NAME.fullmatch(name) and name.lower() not in FILES
        if not valid or not isinstance(made_with, dict):
            raise ValueError(
                f"out: {file} is damaged: arms: {str(name)[:80]!r} cannot name an arm, or is none; {RESTORE}"
            )
    return settings


def _check(file: Path, settings: dict[str, Any]) -> None:
    """Raises ValueError if the settings are not those of a run with images."""
    check_plain(file, settings)
    expect(file, settings, **TYPES)
    labels = settings["labels"]
    if isinstance(labels, dict):
        expect(f"{file}: labels", labels, index=str)
    else:
        expect(file, settings, images_per_class=int)
        if not all(type(label) is int for label in labels):
            raise ValueError(f"{file}: labels: expected numbers of classes")
    if settings["batch_size"] < 1:
        raise ValueError(f"{file}: batch_size: expected an int >= 1, got {settings['batch_size']}")
    try:
        images = len(indices_of(settings))
    except OverflowError:
        images = IMAGES_LIMIT + 1
    except ValueError as error:  # of ranges that are none
        raise ValueError(f"{file}: {error}") from None
    if not 0 < images <= IMAGES_LIMIT:
        name = "labels" if isinstance(labels, dict) else "labels and images_per_class"
        raise ValueError(f"{file}: {name}: expected 1 to {IMAGES_LIMIT:,} images")


def why_no_run(folder: Path) -> str:
    """Why `read_settings` finds no run in a folder."""
    file = folder / SETTINGS
    if file.is_symlink() or not file.is_file():
        return f"no {SETTINGS} that this project wrote"
    try:
        parse(file)
    except ValueError as error:
        return f"{error}; {RESTORE}"
    return f"its {SETTINGS} was not written by this project"


def check_kinds(folder: Path, arms: Iterable[str]) -> None:
    """Raises ValueError if a folder is where a run has a file that is read or rewritten, or a file where a folder."""
    arms = list(arms)
    files = (*FILES, *(f"{arm}/{table}.csv" for arm in arms for table in TABLES))
    wrong = [name for name in files if (folder / name).exists() and not (folder / name).is_file()]
    wrong += [name for name in (*arms, LOCKS) if (folder / name).exists() and not (folder / name).is_dir()]
    if wrong:
        raise ValueError(
            f"out: {folder / wrong[0]}: expected a {'file' if wrong[0] in files else 'folder'} of the run, got "
            f"something else; move it away, then {REPAIR}"
        )


def run_around(file: Path) -> Path | None:
    """The folder of the run in which a file lies or would lie; None outside of runs. Errors as of `read_settings`."""
    return next((folder for folder in file.resolve().parents if read_settings(folder) is not None), None)


def is_new(folder: Path) -> bool:
    """Whether a folder holds nothing but what a run that was killed at its very start leaves."""
    return all(name == LOCKS or unfinished_target(name) == SETTINGS for name in os.listdir(folder))


def indices_of(settings: Mapping[str, Any]) -> Sequence[int]:
    """The images that a run should have, ascending."""
    labels = settings["labels"]
    if isinstance(labels, dict):  # a file that gives the images one by one
        return parse_ranges(labels["index"])
    return range(len(labels) * settings["images_per_class"])


def image_keys(settings: Mapping[str, Any]) -> Container[int]:
    """The same, to ask whether an image is among them."""
    indices = indices_of(settings)
    return indices if isinstance(indices, range) else frozenset(indices)


def batches_of(settings: Mapping[str, Any]) -> int:
    """How many batches a run decodes."""
    return -(-len(indices_of(settings)) // settings["batch_size"])


@dataclass
class Contents:
    """What lies in a folder, as paths relative to it.

    Attributes:
        files: the run's.
        folders: the run's, those inside before those around.
        links: symbolic links where the run has a file or a folder, and pipes or devices where it has a file.
        misplaced: folders where the run has a file, and files where it has a folder.
        foreign: everything else; a folder's name ends with a slash, and it is not entered.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def survey(folder: Path, settings: Mapping[str, Any] | None) -> Contents:
    """Looks at what lies in a folder; follows no link.

    Args:
        folder: it exists.
        settings: of the run whose folder it is; None for a folder without one.
    """
    contents, owned = Contents(), _Owned(settings)
    for entry, name in _walk(folder, owned.folder):
        is_folder = entry.is_dir(follow_symlinks=False)
        is_special = not is_folder and not entry.is_file(follow_symlinks=False)
        if is_special and (owned.file(name) or owned.folder(name)):
            contents.links.append(name)
        elif is_folder and owned.folder(name):
            contents.folders.append(name)
        elif not is_folder and owned.file(name):
            contents.files.append(name)
        elif owned.file(name) or owned.folder(name):
            contents.misplaced.append(f"{name}/" if is_folder else name)
        else:
            contents.foreign.append(f"{name}/" if is_folder else name)
    return contents


def enumerated(names: Sequence[object]) -> str:
    """The first few names and how many there are."""
    return ", ".join(map(str, names[:NAMED])) + (", …" if len(names) > NAMED else "") + f" ({len(names)} in all)"


def _walk(folder: Path, enters: Any, prefix: str = "") -> Iterator[tuple[os.DirEntry, str]]:
    with os.scandir(folder) as found:
        entries: Iterable[os.DirEntry] = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = prefix + entry.name
        if entry.is_dir(follow_symlinks=False) and enters(name):
            yield from _walk(Path(entry.path), enters, f"{name}/")
        yield entry, name


class _Owned:
    """Tells by its relative path whether a file or a folder is one that a run with these settings writes."""

    def __init__(self, settings: Mapping[str, Any] | None) -> None:
        self.arms = settings["arms"] if settings else {}
        indices = indices_of(settings) if settings else range(0)
        self.indices = image_keys(settings) if settings else range(0)
        self.batches = batches_of(settings) if settings else 0
        self.image_folders = max(indices[-1:], default=-1) // IMAGES_PER_FOLDER + 1

    def folder(self, path: str) -> bool:
        arm, _, inside = path.partition("/")
        if arm not in self.arms:
            return path == LOCKS
        if inside in ("", "tokens"):
            return True
        number = int(inside) if re.fullmatch(r"[0-9]{3,15}", inside) else self.image_folders
        return number < self.image_folders and inside == f"{number:03d}"

    def file(self, path: str) -> bool:
        parent, _, name = path.rpartition("/")
        name = unfinished_target(name) or name  # what a killed process was writing is the run's too
        if not parent:
            return name in FILES
        if parent == LOCKS:
            return bool(re.fullmatch(r"rank[0-9]+(\.json)?", name))
        arm, _, inside = parent.partition("/")
        if arm not in self.arms:
            return False
        if not inside:
            return bool(re.fullmatch(r"(manifest|batches)(\.rank[0-9]+)?\.csv", name))
        number = re.fullmatch(r"([0-9]{6,18})\.(png|zlib)", name)
        if number is None:
            return False
        if inside == "tokens":
            return name == f"{int(number[1]):06d}.zlib" and int(number[1]) < self.batches
        return f"{inside}/{name}" == image_file(int(number[1])) and int(number[1]) in self.indices
