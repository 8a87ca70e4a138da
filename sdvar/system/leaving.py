"""How the process of a command ends: at once.

Python would take every object of every module apart first, which takes a second or more where torch is among them. By
then all that asked to be called at the end of the process has been called, and no file is open.
"""

from __future__ import annotations

import atexit
import os
import sys

from sdvar.system.starting import command

_status: int | None = None


def ends_with(status: int | None) -> None:
    """Notes the status with which the command is about to end; None leaves the end to Python, as after a traceback."""
    global _status
    _status = status


def _leave() -> None:
    if _status is None:
        return
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):  # closed, or full: Python has a message and a status for it
        return
    os._exit(_status)


if command():
    atexit.register(_leave)  # before any library's: called after theirs
