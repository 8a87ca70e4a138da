"""What a run records about where it ran."""

import sys

from lightning_modules.run.environment import describe_environment


def test_the_command_is_recorded_as_a_user_types_it(monkeypatch):
    for words, command in (
        (["eval/fid.py", "--out", "a b"], "python eval/fid.py --out 'a b'"),
        (["/home/me/.venv/bin/sdvar", "fid"], "sdvar fid"),
    ):
        monkeypatch.setattr(sys, "argv", words)
        assert describe_environment("cpu", 1, {})["command"] == command
