"""The console script `sdvar`: its table, its help, its errors, and that it hands the arguments on."""

import os
import subprocess
import sys
from importlib import import_module

import pytest

from eval.cli.main import COMMANDS, main
from tests.paths import ROOT


def test_help_lists_every_command_in_one_line_without_torch():
    code = "import sys; from eval.cli.main import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name, command in COMMANDS.items():
        assert sum(line.split() == [name, *command.help.split()] for line in lines) == 1


@pytest.mark.parametrize(("to", "status"), [("/dev/full", 2), (">(exec true)", 0)])
def test_help_that_nobody_can_read_is_no_traceback(to, status):
    line = [sys.executable, "-c", "import sys; from eval.cli.main import main; sys.exit(main(['--help']))"]
    ended = subprocess.run(["bash", "-c", f'"$@" > {to}', "bash", *line], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == status
    assert ended.stderr == ("sdvar: error: stdout: No space left on device\n" if status else "")


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["sweeep", "--out", "runs"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("sdvar: error: command: expected one of fid, ") and said.count("\n") == 1
    assert said.endswith("got 'sweeep'; did you mean sweep?\n")


def test_without_a_command_the_help_is_shown_and_the_status_says_so(capsys):
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_receives_its_words_and_gives_the_status(name, monkeypatch):
    received = []
    module = import_module(COMMANDS[name].module)
    monkeypatch.setattr(module, "main", lambda arguments: received.extend(arguments) or 3)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    first = [*sys.path]
    assert main([name, "--option", "value"]) == 3
    assert received == [*COMMANDS[name].words, "--option", "value"]
    assert sys.path[: len(first)] == first  # the user's folder comes last: an eval.py in it hides nothing


def test_modules_in_the_users_folder_hide_none_of_ours(tmp_path):
    """Without an installation: the packages are found after sys.path, as those of an editable install."""
    for name in ("eval", "sdvar", "lightning_modules"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    code = """
import sys
from importlib.machinery import PathFinder
class Finder:
    find_spec = staticmethod(lambda name, path=None, target=None: PathFinder.find_spec(name, path or [ROOT], target))
sys.meta_path.insert(sys.meta_path.index(PathFinder) + 1, Finder)
sys.path.remove("")
from eval.cli.main import main
main(["fid", "--help"])
"""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = code.replace("ROOT", repr(str(ROOT)))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "--images_per_class" in done.stdout, done.stderr
