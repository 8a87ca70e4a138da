"""The progress line: on a terminal alone, one line, in images, with the acceptance so far."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading

import pytest

from eval import fid
from eval.cli.options import as_config, parse
from eval.main_job.progress import Tqdm
from lightning_modules.run.formats.tables import image_file

ARMS = ["--strategy", "Speculative", "--strategy.gamma", "2", "--strategy", "x=Baseline", "--strategy.reseed", "true"]
IMAGES = 3 * 20  # arms x (5 classes x 4), in batches of 6: the last is filled up


@pytest.fixture
def command(pair_line, tmp_path):
    line = "--sampling.top_k 0 --sampling.top_p 0 --images_per_class 4 --batch_size 6 --threads 1 --accelerator cpu"
    return [*pair_line, *line.split(), "--metrics", "none", *ARMS, "--out", str(tmp_path / "run")]


@contextlib.contextmanager
def terminal(monkeypatch):
    """Standard error is a terminal; what it showed is in the list afterwards."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 150, 0, 0))  # rows and columns
    shown = []

    def read():
        with contextlib.suppress(OSError):  # what the end of a terminal looks like
            while data := os.read(ours, 65536):
                shown.append(data.decode())

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        yield shown
    reader.join(30)
    os.close(ours)


def last_decoding(shown):
    """What the one line of decoding says at last; other steps have lines of their own."""
    (line,) = (line for line in "".join(shown).split("\n") if "decoding: " in line)
    return line.strip().split("\r")[-1]


def test_a_terminal_shows_one_line_with_images_and_acceptance(command, tmp_path, monkeypatch, capsys):
    with terminal(monkeypatch) as shown:
        fid.main(command)
    last = last_decoding(shown)
    assert "100%" not in capsys.readouterr().out
    assert re.search(rf"decoding: 100%.* {IMAGES}/{IMAGES} images \[\d\d:\d\d<00:00, +[\d.]+ images/s", last)
    assert re.search(r"accepted: speculative \d+%\]", last)

    (tmp_path / "run" / "baseline" / image_file(7)).unlink()  # the 6 images of its batch are decoded again
    bars = []
    monkeypatch.setattr("eval.main_job.progress.Tqdm", lambda **keywords: bars.append(Tqdm(**keywords)) or bars[0])
    with terminal(monkeypatch) as shown:
        fid.main(command)
    assert f" {IMAGES}/{IMAGES} images " in last_decoding(shown)
    counted = bars[0].n - bars[0].initial
    assert counted == 6, "images that were there already count as decoded, which makes it look faster than it is"


@pytest.mark.parametrize("quiet", [True, False])
def test_no_line_without_a_terminal_or_when_asked_for_quiet(command, monkeypatch, capsys, quiet):
    if quiet:
        with terminal(monkeypatch) as shown:
            fid.main([*command, "--quiet"])
        assert shown == []
    else:
        fid.main(command)
        assert capsys.readouterr().err == ""


def test_quiet_belongs_to_a_call_and_not_to_the_run():
    assert "quiet" not in as_config(parse(["--quiet"])) and parse(["--quiet"]).quiet
