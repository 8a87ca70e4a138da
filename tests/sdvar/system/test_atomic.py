"""Files are written whole or not at all, and never through a link that somebody put there."""

import os
import stat

import pytest

from sdvar.system.atomic import replacing, unfinished_target, write_atomically


def test_a_file_is_replaced_with_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "a", b"old")
    write_atomically(tmp_path / "a", b"new", sync=False)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("stop", [OSError, KeyboardInterrupt])
def test_an_error_leaves_nothing_and_keeps_the_older_file(tmp_path, stop):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(stop), replacing(tmp_path / "a") as stream:
        stream.write(b"half")
        raise stop
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a": b"old"}


def test_no_link_is_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    monkeypatch.setattr("sdvar.system.atomic.secrets.token_hex", lambda size: "0" * 2 * size)
    guessed = tmp_path / f".a.{'0' * 16}.tmp"
    os.symlink(victim, guessed)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "a", b"data")
    os.symlink(victim, tmp_path / "b")
    monkeypatch.undo()
    write_atomically(tmp_path / "b", b"data")
    assert victim.read_bytes() == b"precious" and not (tmp_path / "b").is_symlink()


def test_a_name_tells_which_file_was_unfinished(tmp_path):
    names = []
    with replacing(tmp_path / "000009.png") as stream:
        names.append(os.path.basename(stream.name))
    assert unfinished_target(names[0]) == "000009.png"
    assert unfinished_target(".hidden.tmp") is None and unfinished_target("000009.png") is None
