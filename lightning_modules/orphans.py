"""Processes of a run end when the one that started them is gone."""

from __future__ import annotations

import os
import sys
import threading
import time

INTERVAL = 0.5  # seconds between looks


def end_with_parent() -> None:
    """In a process that a launcher started: end it, at once, when the launcher is gone.

    Without this a rank whose launcher was killed would go on writing, or wait for the others until a collective times
    out.
    """
    if "LOCAL_RANK" not in os.environ:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(INTERVAL)
        print(f"rank {os.environ.get('RANK', os.environ['LOCAL_RANK'])}: the process that started this one is gone, "
              "ending", file=sys.stderr, flush=True)  # fmt: skip
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
