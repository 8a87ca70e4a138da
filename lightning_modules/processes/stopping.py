"""How the processes of a run end early: between two batches on a signal, or at once when their launcher is gone."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from sdvar.system.starting import STARTED_BY

log = logging.getLogger("sdvar.stopping")
# what clusters send some time before they kill; SIGUSR1 is what SLURM users know from Lightning
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
INTERVAL = 0.5  # seconds between two checks that the launcher is alive


class StopOnSignal(Callback):
    """Ends a process after its current batch once it has received SIGTERM or SIGUSR1, with status 128 + the signal.

    Each process stops by itself. Lightning's own handler of SIGTERM makes all processes meet in a broadcast, which
    hangs where only some of them (a node that is taken back) have received the signal, and its handler of SIGUSR1
    under SLURM writes a training checkpoint. The signal is passed on to processes that Lightning started from this
    one, and this process waits for them.

    It leaves where a batch, or all of them, have passed through every callback: its place among them does not matter.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._trainer: Trainer | None = None
        self._children: list[subprocess.Popen] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.received, self._trainer = None, trainer
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:  # Lightning restores the earlier handlers when the run ends
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            return
        self.received = signal.Signals(number)
        processes = getattr(self._trainer.strategy.launcher, "procs", [])
        self._children = list(processes)
        processes.clear()  # a thread of Lightning's kills every process as soon as one of these ends with an error
        for child in self._children:
            child.send_signal(number)

    def on_predict_batch_start(self, trainer: Trainer, *arguments: Any, **keywords: Any) -> None:
        self._leave_if_asked(trainer)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave_if_asked(trainer)  # before the processes meet to add up their statistics

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._leave_if_asked(trainer)  # the last batches are written; the measuring is left to the next call

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, RuntimeError):  # it waited for a process that has stopped
            self._leave_if_asked(trainer)

    def _leave_if_asked(self, trainer: Trainer) -> None:
        if self.received:
            self._leave(trainer, self.received)

    def _leave(self, trainer: Trainer, received: signal.Signals) -> NoReturn:
        for child in self._children:
            child.wait()  # for its own batch; it would end with this one
        if trainer.is_global_zero:
            log.warning("stopped by %s after a whole batch; run the same command again to continue", received.name)
        raise SystemExit(128 + received)


def end_with_parent() -> None:
    """In a process that a launcher started: end it, at once, when the launcher is gone.

    Otherwise a rank whose launcher was killed would go on writing, or wait for the others until a collective times out.
    A launcher that was killed while this process imported its libraries counts too.
    """
    if "LOCAL_RANK" not in os.environ:
        return

    def watch() -> None:
        while os.getppid() == STARTED_BY:
            time.sleep(INTERVAL)
        rank = os.environ.get("RANK", os.environ["LOCAL_RANK"])
        print(f"rank {rank}: the process that started this one is gone, ending", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
