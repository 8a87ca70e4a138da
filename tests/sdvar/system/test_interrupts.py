"""Ctrl-C ends every command with one line and status 130; an output that nobody reads is no failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from eval.estimates.memory import measuring
from sdvar.system.interrupts import well_behaved
from tests.paths import ROOT

COMMANDS = {
    "eval.fid": ("eval.main_job.job.prepare", []),
    "eval.sweep": ("eval.main_job.job.prepare", ["--strategy", "Speculative"]),
    "eval.measure": ("eval.measure.measure_again", ["--out", "run"]),
    "eval.verify": ("eval.verify.verify", ["claim.json"]),
    "eval.export": ("eval.export.export", ["a.npz", "--out", "run", "--arm", "baseline"]),
    "eval.benchmark": ("eval.benchmarking.job.prepare", []),
    "eval.benchmark_loading": ("eval.benchmarking.loading.measure", []),
    "eval.benchmark_writer": ("eval.benchmarking.writing.measure", ["--side", "8"]),
    "eval.tokens": ("eval.tokens.make", []),
    "eval.plan": ("eval.planning.planner.prepare", []),
    "sdvar.selftest.__main__": ("sdvar.load_pair", []),
    "sdvar.checkpoints.__main__": ("sdvar.checkpoints.__main__.inspect", ["inspect", "a.pth"]),
    "examples.compare": ("sdvar.load_pair", []),
}


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def handler():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("module", COMMANDS)
def test_ctrl_c_is_one_line(module, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    place, line = COMMANDS[module]
    monkeypatch.setattr(place, interrupt)
    with pytest.raises(SystemExit) as stopped:
        import_module(module).main(line)
    error = capsys.readouterr().err.strip()
    assert stopped.value.code == 130
    assert "\n" not in error and ": interrupted; " in error


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_memory_that_runs_out_while_measuring_is_one_line(error):
    with pytest.raises(ValueError, match=r"^metrics: measuring ran out of memory; .*--metrics"), measuring():
        raise error
    with pytest.raises(RuntimeError, match="another"), measuring():
        raise RuntimeError("another")


@pytest.mark.proof
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_while_decoding_keeps_what_is_finished(presses, pair_line, tmp_path):
    line = [*pair_line, "--labels", "0-4", "--images_per_class", "20", "--batch_size", "2", "--threads", "1"]
    line += ["--metrics", "none", "--top_k", "0", "--accelerator", "cpu", "--out", str(tmp_path / "run")]
    line += ["--strategy", "Speculative", "--strategy.gamma", "2"]
    command = [sys.executable, str(ROOT / "eval/fid.py"), *line]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "run/baseline/manifest.rank0.csv"
    while process.poll() is None and not part.exists():
        time.sleep(0.05)
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    expected = "eval/fid.py: interrupted; what is finished is kept, and the same command continues"
    assert (process.returncode, error.strip()) == (130, expected)
    assert part.read_text().count("\n") >= 2


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("eval/fid.py", "eval/fid.py"),
        ("lightning_modules/__main__.py", "python -m lightning_modules"),
        (".venv/bin/sdvar", "sdvar"),
        ("somewhere/fid.py", None),
        ("", None),
    ],
)
def test_ctrl_c_while_libraries_are_imported_is_one_line_of_a_command_alone(script, name):
    code = "import importlib.util as u, os, signal, sys; sys.argv = [sys.argv[1]]\n"
    code += "s = u.spec_from_file_location('starting', 'sdvar/system/starting.py'); m = u.module_from_spec(s)\n"
    code += "s.loader.exec_module(m); os.kill(os.getpid(), signal.SIGINT); print('on')"
    line = [sys.executable, "-S", "-c", code, script]
    result = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    if name is None:
        assert "KeyboardInterrupt" in result.stderr  # the program's own affair
    else:
        assert result.returncode == 130
        assert result.stderr.strip() == f"{name}: interrupted while it started; give the command again"


def test_where_ctrl_c_is_ignored_a_missing_package_is_one_line_all_the_same(monkeypatch):
    """As under nohup, in the background."""
    monkeypatch.setattr(sys, "argv", ["eval/fid.py"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        spec = spec_from_file_location("starting", ROOT / "sdvar" / "system" / "starting.py")
        starting = module_from_spec(spec)
        spec.loader.exec_module(starting)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert sys.excepthook is starting.name_missing


def test_a_library_that_the_system_cannot_load_is_one_line():
    """As torch's, where the memory of a process is limited."""
    code = "import sys; sys.argv = ['eval/fid.py']; import sdvar.system.starting\n"
    code += "raise ImportError('libtorch.so: cannot map segment\\nfrom shared object', name='torch._C')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    expected = "eval/fid.py: error: a library cannot be loaded: libtorch.so: cannot map segment from shared object\n"
    assert (result.returncode, result.stderr) == (2, expected)


def test_ctrl_c_that_a_library_turns_into_an_error_is_one_line(capsys):
    def importing() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("numpy failed") from error

    with pytest.raises(SystemExit) as stopped:
        well_behaved("x", "y")(importing)()
    assert stopped.value.code == 130 and capsys.readouterr().err.strip() == "x: interrupted; y"


def test_a_closed_pipe_is_no_failure():
    script = "import sys; from sdvar.system.interrupts import well_behaved\n"
    script += "well_behaved('x', 'y')(lambda: [print('\\u2500' * 99) for _ in range(9999)])()"
    line = ["bash", "-c", 'set -o pipefail; "$@" | head -1', "bash", sys.executable, "-c", script]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(line, capture_output=True, text=True, timeout=300, env=environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, "?" * 99 + "\n", "")


def test_another_process_of_the_run_is_silent(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as stopped:
        well_behaved("x", "y")(interrupt)()
    assert stopped.value.code == 130 and capsys.readouterr().err == ""
