"""The image files of a folder as it lies on a person's disk, and what in it is passed over."""

from __future__ import annotations

import csv
import functools
import os
from pathlib import Path

from PIL import Image

from lightning_modules.run.formats.rows import image_file

# what Pillow decodes by itself; not PostScript and the like, whose files are programs or pages
RASTERS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "TGA", "JPEG2000", "AVIF", "PCX", "SGI", "QOI")
SYSTEM = ("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found")  # of programs that show files
FEW = 3  # names that a line shows


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats of image files, as Pillow names those that this one can decode."""
    Image.init()
    return tuple(kind for kind in RASTERS if kind in Image.OPEN)


@functools.cache
def suffixes() -> frozenset[str]:
    """Endings of the names of image files, in lower case."""
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in formats())


def image_files(folder: Path) -> tuple[list[Path], str]:
    """The image files of a folder and of those in it, in order, and in words what was passed over.

    Hidden and system files and folders are passed over, and so is what is no image by its name. Links are followed.
    """
    found: list[Path] = []
    skipped: dict[str, list[str]] = {"hidden": [], "no image": [], "no regular file": []}
    seen: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        hidden = [name for name in (*folders, *files) if name.startswith(".") or name.lower() in SYSTEM]
        skipped["hidden"] += hidden
        folders[:] = [] if real in seen else [name for name in folders if name not in hidden]
        if real in seen:
            continue
        seen.add(real)
        for name in files:
            path = Path(where, name)
            if name in hidden:
                continue
            if path.suffix.lower() not in suffixes():
                skipped["no image"].append(name)
            elif not path.is_file():
                skipped["no regular file"].append(name)
            else:
                found.append(path)
    parts = [f"{len(names):,} {what} ({_few(sorted(names))})" for what, names in skipped.items() if names]
    return sorted(found), ", ".join(parts)


def is_arm(folder: Path) -> bool:
    """Whether a folder is a run's: its manifest lists images by their index, under the names that a run gives them."""
    manifest = folder / "manifest.csv"
    if not manifest.is_file():  # nor a pipe, which has no end
        return False
    try:
        with manifest.open(encoding="utf-8", errors="replace", newline="") as lines:
            rows = csv.DictReader(line.replace("\0", "\ufffd") for line in lines)
            first = next(rows, None)
            columns = rows.fieldnames or ()
    except (OSError, csv.Error):
        return False
    if "index" not in columns or "file" not in columns:
        return False
    index = str((first or {}).get("index"))
    return first is None or (index.isdecimal() and len(index) < 10 and first["file"] == image_file(int(index)))


def _few(names: list[str]) -> str:
    return ", ".join(names[:FEW] + ["…"] * (len(names) > FEW))
