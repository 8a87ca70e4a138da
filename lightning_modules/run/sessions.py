"""decoding.json: the machines that decoded a run, and how long it took, session by session."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_modules.run.folder import RunFolder
from lightning_modules.run.formats.records import REPAIR, expect, read_record
from lightning_modules.run.missing import unfinished

log = logging.getLogger("sdvar.writer")
DECODING = "decoding.json"
NUMBER = (int, float)


def earlier_at_batch_one(folder: RunFolder) -> dict[str, Any] | None:
    """What an earlier session of a run measured at batch size 1, see `FinishedRun`; None if none did."""
    return measured_at_batch_one(_sessions_so_far(folder))


def measured_at_batch_one(sessions: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the first of some sessions that asked found at batch size 1; None if none did."""
    return next((session["at_batch_one"] for session in sessions if session["at_batch_one"]), None)


def start_session(
    folder: RunFolder,
    environment: Mapping[str, Any],
    prepare: float,
    overwrite: bool,
    at_batch_one: Mapping[str, Any] | None = None,
) -> None:
    """Records who decodes, before decoding; nothing if all images exist already.

    Args:
        folder: of the run, open.
        environment: of this machine.
        prepare: seconds that loading took.
        overwrite: the run starts afresh.
        at_batch_one: see `FinishedRun`.
    """
    if not unfinished(folder):
        return
    sessions = [] if overwrite else _sessions_so_far(folder)
    session = {"environment": dict(environment), "prepare": prepare, "decode": None}
    if at_batch_one:
        session["at_batch_one"] = dict(at_batch_one)
    sessions = [*sessions, session]
    folder.write(DECODING, json.dumps({"sessions": sessions}, indent=2) + "\n")


def end_session(folder: RunFolder, decode: float, class_prefix: Mapping[str, float]) -> None:
    """Records how many seconds decoding took, and each arm's class prefixes, if this process began a session."""
    sessions = read_sessions(folder)
    if sessions and sessions[-1]["decode"] is None:
        sessions[-1] |= {"decode": decode, "class_prefix": dict(class_prefix)}
        folder.write(DECODING, json.dumps({"sessions": sessions}, indent=2) + "\n")


def _sessions_so_far(folder: RunFolder) -> list[dict[str, Any]]:
    """Those of a run that goes on: it loses no more than times if the file is damaged."""
    try:
        return read_sessions(folder)
    except ValueError as error:
        log.warning("%s; the times of earlier sessions are given up", str(error).removesuffix(f"; {REPAIR}"))
        folder.write(DECODING, json.dumps({"sessions": []}) + "\n")
        return []


def read_sessions(folder: RunFolder) -> list[dict[str, Any]]:
    """Who decoded and how long, from decoding.json; none if there is no such file."""
    try:
        return _read_file(folder.path / DECODING)
    except ValueError as error:
        raise ValueError(f"{error}; {REPAIR}") from None


def _read_file(file: Path) -> list[dict[str, Any]]:
    record = {"sessions": []} | read_record(file)
    expect(file, record, sessions=list)
    for session in record["sessions"]:
        if not isinstance(session, dict):
            raise ValueError(f"{file}: sessions: expected mappings, got {session!r:.60}")
        session.setdefault("decode", None)  # interrupted
        session.setdefault("class_prefix", {})
        session.setdefault("at_batch_one", None)
        expect(file, session, environment=dict, prepare=NUMBER, decode=(*NUMBER, type(None)), class_prefix=dict)
        for taken in session["class_prefix"].values():
            expect(f"{file}: class_prefix", {"seconds": taken}, seconds=NUMBER)
        expect(f"{file}: environment", session["environment"], device=str, threads=int)
        expect(file, session, at_batch_one=(dict, type(None)))
        if session["at_batch_one"] is not None:
            expect(
                f"{file}: at_batch_one", session["at_batch_one"], batch_size=int, arm=str, pays=bool, strategy=str,
                reason=str, speed=(*NUMBER, type(None)), speed_noise=(*NUMBER, type(None)),
            )  # fmt: skip
    return record["sessions"]
