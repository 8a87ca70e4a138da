"""What a command is doing, in steps that can take longer than some seconds: a line each, on a terminal alone.

Code that takes long writes to `log` at level INFO. In Python nothing is shown unless logging is set up for it.
"""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("sdvar.steps")


def show(shown: bool = True) -> None:
    """Show the steps on stderr from now on, if that is a terminal; or none any more."""
    shown = shown and sys.stderr is not None and sys.stderr.isatty()
    log.handlers = [logging.StreamHandler()] if shown else []
    log.setLevel(logging.INFO if shown else logging.NOTSET)
    log.propagate = not shown
