"""Ctrl-C while a command imports its libraries, which takes seconds: one line and status 130, as ever after.

`sdvar.interrupts.well_behaved` takes over once they are there. A program that imports this package keeps its handler.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

PACKAGES = ("sdvar", "eval", "lightning_modules", "examples")
INTERRUPTED = 128 + signal.SIGINT


def command() -> str | None:
    """The command of this project that this process runs, as a user calls it; None for any other program."""
    script = Path(sys.argv[0] if getattr(sys, "argv", None) else "")
    if str(script) == "-m":  # its package is imported before its file is known
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
        return f"python -m {module}" if module.partition(".")[0] == __name__.partition(".")[0] else None
    try:
        folder = script.absolute().parent
    except FileNotFoundError:  # of the working directory, see `sdvar.working_directory`
        return None
    if script.name == "sdvar" and folder.name in ("bin", "Scripts"):
        return "sdvar"
    if folder.name not in PACKAGES or not (folder.parent / "sdvar" / Path(__file__).name).is_file():
        return None
    return f"python -m {folder.name}" if script.name == "__main__.py" else f"{folder.name}/{script.name}"


def leave(number: int, frame: Any) -> None:
    """The handler: no exception, which the libraries that are being imported would turn into their own."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        os.write(2, f"\n{command()}: interrupted while it started; give the command again\n".encode())
    os._exit(INTERRUPTED)


def usual() -> None:
    """Puts Python's own handler back, if `leave` is in its place."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    and command()
):
    signal.signal(signal.SIGINT, leave)
