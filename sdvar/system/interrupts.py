"""What every command does when it cannot go on, is interrupted, or when nobody reads its output."""

from __future__ import annotations

import argparse
import functools
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

from sdvar.system import steps
from sdvar.system.command_line import stop
from sdvar.system.leaving import ends_with
from sdvar.system.starting import INTERRUPTED, usual

P = ParamSpec("P")
R = TypeVar("R")
WRONG = (ValueError, TypeError, OSError, argparse.ArgumentError)  # whose text is for the user


def well_behaved(
    command: str, advice: str, before_error: Callable[[], object] = lambda: None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates the ``main`` of a command.

    On a terminal the command says what it does, see `sdvar.system.steps`. Wrong options and files end it with one line
    and status 2, Ctrl-C with one line and status 130. A stdout that cannot show a character shows another in its place,
    and one that was closed, as by ``| head -1``, is no failure. The process ends at once, see `sdvar.system.leaving`.

    Args:
        command: as the user calls it, such as "eval/fid.py".
        advice: what is kept, and how to go on.
        before_error: called before an error is printed.
    """

    def decorate(main: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(main)
        def noted(*arguments: P.args, **keywords: P.kwargs) -> R:
            ends_with(None)
            try:
                result = behaved(*arguments, **keywords)
            except SystemExit as end:
                ends_with(0 if end.code is None else end.code if isinstance(end.code, int) else None)
                raise
            ends_with(result if isinstance(result, int) else 0)
            return result

        def behaved(*arguments: P.args, **keywords: P.kwargs) -> R:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="replace")
            steps.show()
            usual()
            try:
                result = main(*arguments, **keywords)
                if sys.stdout:
                    sys.stdout.flush()
                return result
            except KeyboardInterrupt:
                _leave(command, advice)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(0)
            except BaseException as error:
                if _interrupted(error):
                    _leave(command, advice)
                if isinstance(error, WRONG):
                    before_error()
                    stop(command, error)
                raise

        return noted

    return decorate


def _interrupted(error: BaseException | None) -> bool:
    """Whether an error is what a library made of Ctrl-C: Lightning exits with status 1, an import of NumPy fails."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _leave(command: str, advice: str) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever presses it twice gets the line once
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"\n{command}: interrupted; {advice}", file=sys.stderr, flush=True)
    raise SystemExit(INTERRUPTED) from None
