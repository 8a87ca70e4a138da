"""A run ends between two batches when the cluster asks for the machine."""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
from types import FrameType
from typing import Any, NoReturn

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

log = logging.getLogger("sdvar.stopping")
# what clusters send some time before they kill; SIGUSR1 is what SLURM users know from Lightning
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopOnSignal(Callback):
    """Ends a process after its current batch once it has received SIGTERM or SIGUSR1, with status 128 + the signal.

    Each process stops by itself. Lightning's own handler of SIGTERM makes all processes meet in a broadcast, which
    hangs where only some of them (a node that is taken back) have received the signal, and its handler of SIGUSR1
    under SLURM writes a training checkpoint. Processes that Lightning started from this one are told, and waited for.

    It comes after the callback that writes the batch.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._trainer: Trainer | None = None
        self._children: list[subprocess.Popen] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.received, self._trainer = None, trainer
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:  # Lightning puts back what was there before when the run ends
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

    def on_predict_batch_end(self, trainer: Trainer, *arguments: Any, **keywords: Any) -> None:
        if self.received:
            self._leave(trainer)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.received:  # while the last batches were written: the measuring is left to the next call
            self._leave(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self.received and isinstance(exception, RuntimeError):  # it waited for a process that has stopped
            self._leave(trainer)

    def _leave(self, trainer: Trainer) -> NoReturn:
        for child in self._children:
            child.wait()  # for its own batch; it would end with this one
        if trainer.is_global_zero:
            name = self.received.name
            log.warning("stopped by %s after a whole batch; run the same command again to continue", name)
        raise SystemExit(128 + self.received)
