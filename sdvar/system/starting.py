"""While a command imports its libraries: Ctrl-C is one line and status 130, as ever after; a missing one is one line.

Nor is garbage collected then, of which there is none: looking for it takes a tenth of the time.

`sdvar.system.interrupts.well_behaved` takes over once they are there. A program that imports this package keeps its
handler.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

PACKAGES = ("sdvar", "eval", "lightning_modules", "examples")
INTERRUPTED = 128 + signal.SIGINT
STARTED_BY = os.getppid()  # now: a launcher may be killed while this process imports its libraries


def command() -> str | None:
    """The command of this project that this process runs, as a user calls it; None for any other program."""
    script = Path(sys.argv[0] if getattr(sys, "argv", None) else "")
    if str(script) == "-m":  # its package is imported before its file is known
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
        package = module.partition(".")[0]
        ours = package in PACKAGES and _beside_us(Path(sys.modules[package].__path__[0]))
        return f"python -m {module}" if ours else None
    try:
        folder = script.absolute().parent
    except FileNotFoundError:  # of the working directory, see `sdvar.system.working_directory`
        return None
    if script.name == "sdvar" and folder.name in ("bin", "Scripts"):
        return "sdvar"
    if folder.name not in PACKAGES or not _beside_us(folder):
        return None
    return f"python -m {folder.name}" if script.name == "__main__.py" else f"{folder.name}/{script.name}"


def _beside_us(folder: Path) -> bool:
    return (folder.parent / "sdvar" / "system" / Path(__file__).name).is_file()


def leave(number: int, frame: Any) -> None:
    """The handler: no exception, which the libraries that are being imported would turn into their own."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        os.write(2, f"\n{command()}: interrupted while it started; give the command again\n".encode())
    os._exit(INTERRUPTED)


def name_missing(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The hook for errors: a package that is missing, or that the system cannot load, is named in one line."""
    if not isinstance(error, ImportError) or (error.name or "").partition(".")[0] in PACKAGES:
        sys.__excepthook__(kind, error, trace)
        return
    if not isinstance(error, ModuleNotFoundError):  # too little memory for a library, or one of another system
        os.write(2, f"{command()}: error: a library cannot be loaded: {' '.join(str(error).split())}\n".encode())
        os._exit(2)
    from sdvar.system.command_line import needs

    os.write(2, f"{command()}: error: {needs(error)}\n".encode())
    os._exit(2)


def usual() -> None:
    """Puts Python's own handler and hook back, if `leave` and `name_missing` are in their places, and its collector."""
    gc.enable()
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.excepthook is name_missing:
        sys.excepthook = sys.__excepthook__


if threading.current_thread() is threading.main_thread() and command():
    os.environ.pop("MPLBACKEND", None)  # a notebook's, which what it starts may lack; a command shows no window
    gc.disable()
    sys.excepthook = name_missing
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may ignore it, as under nohup
        signal.signal(signal.SIGINT, leave)
