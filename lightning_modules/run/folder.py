"""The folder of a run: where its files lie, what it was made with, what of it is finished."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightning_modules.columns import BATCH_COLUMNS, MANIFEST_COLUMNS
from lightning_modules.options import plain_yaml
from lightning_modules.run.contents import (
    MARKER,
    Contents,
    batches_of,
    enumerated,
    image_keys,
    is_new,
    read_settings,
    survey,
    why_no_run,
)
from lightning_modules.run.formats.packed_tokens import most_bytes, pack, unpack
from lightning_modules.run.formats.records import check_recordable
from lightning_modules.run.formats.tables import Table
from lightning_modules.run.lock import RunLock
from lightning_modules.run.names import LOCKS, OF_IMAGES, SETTINGS
from lightning_modules.run.room import check_writable
from sdvar.system.atomic import unfinished_target, write_atomically
from sdvar.system.command_line import check_folder

if TYPE_CHECKING:
    from lightning_modules.run.growth import Growth

log = logging.getLogger("sdvar.writer")
PATIENCE = 10.0  # seconds; a network file system may show a new file late


class RunFolder:
    """A run's images and tables.

    ``settings.yaml`` holds what the images depend on. Each arm has a folder with the images, ``manifest.csv`` (one row
    per image) and ``batches.csv`` (one row per batch: its number of images, seconds, counts per scale, K numbers with
    blanks between, counts per round and scale, rounds with semicolons between, and the seconds of each part, K + 1
    numbers: at each scale, and outside the scales). ``baseline_seconds`` is the time of the baseline for the batch,
    decoded in turn with this arm; empty if it was not decoded.

    In a manifest ``tokens_equal_baseline`` says (1 or 0) whether the image has all of the baseline's tokens,
    ``agreeing_tokens`` how many of them, ``score_gap`` how far apart the target's scores of the two tokens are where an
    exact arm's image first differs. They are empty where there is nothing to compare. ``sha256`` is the digest of the
    image's file.

    Each arm's folder also holds its tokens, one file per batch: the baseline's for arms that are added later, all of
    them for the likelihood audit.
    """

    def __init__(self, path: Path | str) -> None:
        check_folder(path)
        self.path = Path(path).expanduser()
        self.lock = RunLock(self.path)

    def manifest(self, arm: str) -> Table:
        return Table(self.path / arm / "manifest.csv", MANIFEST_COLUMNS)

    def batches(self, arm: str) -> Table:
        return Table(self.path / arm / "batches.csv", BATCH_COLUMNS)

    def write_tokens(self, arm: str, batch: int, tokens: np.ndarray) -> str:
        """Keeps the tokens (B, L) that an arm made of a batch; returns their digest, for ``batches.csv``."""
        file = self._tokens(arm, batch)
        file.parent.mkdir(exist_ok=True)
        packed, recorded = pack(tokens)
        write_atomically(file, packed)
        return recorded

    def read_tokens(self, arm: str, batch: int, shape: tuple[int, int], recorded: str) -> np.ndarray | None:
        """The tokens that an arm made of a batch, int64; None if they are not there as they were written.

        Args:
            arm, batch: whose tokens.
            shape: of the tokens, (B, L).
            recorded: their digest when they were written.
        """
        stored = self._tokens(arm, batch)
        try:
            if not stored.is_file():  # nor a pipe, which has no end
                return None
            with stored.open("rb") as file:
                packed = file.read(most_bytes(shape))
        except OSError:
            return None
        return unpack(packed, shape, recorded)

    def _tokens(self, arm: str, batch: int) -> Path:
        return self.path / arm / "tokens" / f"{batch:06d}.zlib"

    def check(
        self, settings: Mapping, overwrite: bool = False, extend: bool = False, growth: Growth | None = None
    ) -> None:
        """Refuses a folder that this run must not write to; changes nothing.

        Args:
            settings: of the run that is to write.
            overwrite: it removes an earlier run.
            extend: it may have other arms than the earlier run, but none of the same name that is something else.
            growth: how it grows by further images.

        Raises:
            ValueError: the folder cannot be written, holds something else than a run, or a run with other settings.
        """
        check_recordable(settings)
        check_writable(self.path)
        if not self.path.exists():
            return
        earlier = read_settings(self.path)
        if earlier is None and not is_new(self.path):
            raise ValueError(
                f"out: {self.path} is not empty and contains no run ({why_no_run(self.path)}); give a new folder"
            )
        found = self._survey(earlier)
        if overwrite:
            self._check_removable(found)
        for name in found.foreign:
            if name.rstrip("/") in settings["arms"]:
                raise ValueError(f"out: {self.path / name} is not the run's, and an arm has that name; move it away")
        if earlier is None:
            return
        if not overwrite:
            settings = plain_yaml.load(plain_yaml.dump(dict(settings)))
            if growth:
                earlier |= {name: settings[name] for name in OF_IMAGES if name in settings}
                self._check_all_grow(settings["arms"])
            if extend:
                earlier["arms"] = {**settings["arms"], **self.arms()}
                settings["arms"] = {**earlier["arms"], **settings["arms"]}
            differing = _differences(earlier, settings)
            if differing:
                raise ValueError(
                    f"out: {self.path} holds a run with other settings; give another folder or --overwrite it: "
                    + "; ".join(differing)
                )

    def _check_all_grow(self, arms: Iterable[str]) -> None:
        if others := sorted(self.arms().keys() - set(arms)):
            raise ValueError(
                f"out: {self.path} holds arms that are not asked for ({', '.join(others)}), which would lack the "
                "further images; ask for them too, or remove their folders to give them up"
            )

    def open(
        self,
        settings: Mapping,
        arms: Iterable[str],
        overwrite: bool = False,
        extend: bool = False,
        growth: Growth | None = None,
    ) -> None:
        """Makes the folder ready for writing; one process does this before the others look.

        Takes over what an interrupted run left, or removes the earlier run's files if ``overwrite``. The folder is this
        run's alone from here on. With ``extend`` arms that it holds already stay in its settings.
        """
        self.check(settings, overwrite, extend, growth)
        try:
            self.lock.acquire(rank=0)
        except OSError as error:
            raise ValueError(f"out: {self.path} cannot be written: {error.strerror}") from None
        if extend and not overwrite:
            settings = {**settings, "arms": {**self.arms(), **settings["arms"]}}
        arms = list(arms)
        try:
            if overwrite:
                self._remove_run()
            self.path.mkdir(parents=True, exist_ok=True)
            if growth:  # before the settings: a run that is killed here has what it had, or can grow again
                self._drop_batches(growth.stale)
            self.write(SETTINGS, MARKER | dict(settings))
            for arm in arms:
                (self.path / arm).mkdir(exist_ok=True)
            self._remove_unfinished()
        except OSError as error:
            raise ValueError(f"out: {error.filename or self.path} cannot be written: {error.strerror}") from None
        self.merge(arms)

    def _drop_batches(self, stale: Collection[int]) -> None:
        """Removes the rows of batches that are to be decoded again, with further images."""
        arms = self.arms()
        self.merge(arms)
        for table in map(self.batches, arms if stale else ()):
            table.replace(row for row in table.read() if int(row["batch"]) not in stale)

    def check_places(self) -> None:
        """Raises ValueError if something else is where the run has a file or a folder."""
        self._survey(read_settings(self.path))

    def _survey(self, settings: Mapping | None) -> Contents:
        """What lies in the folder; ValueError if something else is where the run has a file or a folder."""
        found = survey(self.path, settings)
        if found.links:
            raise ValueError(
                f"out: {self.path} has links or pipes where a run has its own files: {enumerated(found.links)}; to "
                "keep a run on another disk, give a folder there as out"
            )
        if found.misplaced:
            raise ValueError(
                f"out: {self.path} has folders where a run has its own files, or files where it has folders: "
                f"{enumerated(found.misplaced)}; move them away, and the same command makes what was there again"
            )
        return found

    def _check_removable(self, found: Contents) -> None:
        if found.foreign:
            raise ValueError(
                f"out: {self.path} cannot be overwritten: it holds what is not the run's: {enumerated(found.foreign)}; "
                "move that away, or give another folder; nothing was removed"
            )

    def _remove_run(self) -> None:
        """Removes the earlier run but for its settings, which name what is left if this is interrupted."""
        settings = read_settings(self.path)
        found = self._survey(settings)
        self._check_removable(found)
        for name in found.files:
            if name != SETTINGS and not name.startswith(f"{LOCKS}/"):  # the locks are held
                (self.path / name).unlink()
        for name in found.folders:
            if name != LOCKS:
                (self.path / name).rmdir()

    def _remove_unfinished(self) -> None:
        """Removes what a killed process was writing; no process of a run is left that could still write it."""
        for name in self._survey(read_settings(self.path)).files:
            if unfinished_target(name.rpartition("/")[2]):
                (self.path / name).unlink()

    def join(self, rank: int, holder: Mapping) -> None:
        """Takes part in the run that the first process has opened.

        Args:
            rank: of this process.
            holder: what the first process says of itself, its `RunLock.holder`.

        Raises:
            ValueError: this process does not see the folder of the first one, or another run has this rank's lock.
        """
        deadline = time.monotonic() + PATIENCE
        while self.lock.holder(0) != holder:
            if time.monotonic() > deadline:
                raise ValueError(
                    f"out: {self.path} on {socket.gethostname()} is not the folder that the run was opened in on "
                    f"{holder['host']}; give one that all nodes see"
                )
            time.sleep(0.2)
        self.lock.acquire(rank)

    def write(self, name: str, content: str | Mapping) -> None:
        """Writes a text, or a mapping as YAML, to a file of the folder; it appears whole or not at all."""
        text = content if isinstance(content, str) else plain_yaml.dump(dict(content))
        write_atomically(self.path / name, text.encode())

    def merge(self, arms: Iterable[str]) -> None:
        """Merges the tables that the processes of a run wrote; one process does this when all are done.

        Rows that are not as the run wrote them are dropped, and what they stand for is made again.
        """
        settings = read_settings(self.path)
        images, batches = (image_keys(settings), range(batches_of(settings))) if settings else (None, None)
        for arm in arms:
            for table, keys in ((self.manifest(arm), images), (self.batches(arm), batches)):
                damaged = table.merge(keys)
                if damaged:
                    count = f"{len(damaged):,} lines are" if len(damaged) > 1 else "a line is"
                    log.warning("%s: %s not the run's and made again (%s)", table.path, count, damaged[0])

    def arms(self) -> dict[str, str | dict]:
        """What the folder's arms were made with; those whose folder was removed have been given up."""
        arms = (read_settings(self.path) or {}).get("arms", {})
        return {name: made_with for name, made_with in arms.items() if (self.path / name).is_dir()}


def _differences(old: object, new: object, name: str = "") -> list[str]:
    """Lines such as ``seed: 0 in the folder, 1 now`` for every leaf that differs; of a list for the first that does."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("text") == new.get("text"):  # of an arm, its text
        keys = list(dict.fromkeys((*old, *new)))
        return [
            line
            for key in keys
            for line in _differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return next((_differences(a, b, f"{name}[{i}]") for i, (a, b) in enumerate(zip(old, new)) if a != b), [])
    return [] if old == new else [f"{name}: {_short(old)} in the folder, {_short(new)} now"]


def _short(value: object) -> str:
    value = value.get("text", value) if isinstance(value, dict) else value
    text = "absent" if value is None else str(value)
    return text if len(text) <= 100 else text[:97] + "..."
