"""What loggers say, on stderr, while a command runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def on_stderr(*names: str) -> Iterator[None]:
    """Shows what loggers say at level INFO, a line each; afterwards they are as before, for a caller in Python."""
    handler, loggers = logging.StreamHandler(), [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.removeHandler(handler)
            logger.setLevel(level)
