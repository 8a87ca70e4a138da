"""The benchmark of the writer runs, says what it measured, and leaves nothing behind."""

import re

import pytest

from eval import benchmark_writer


def test_it_measures_the_writer_and_how_long_decoding_waited(tmp_path, capsys):
    options = "--images 10 --batch_size 4 --side 32 --workers 2 --rates 500 1000"
    benchmark_writer.main([*options.split(), "--folder", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "32 x 32" in printed and re.search(r"writer +[\d.]+ images/s by 2 threads, [\d.]+ per core", printed)
    assert re.findall(r"^ +([\d.]+) images/s +[\d.]+ s of [\d.]+ s$", printed, re.MULTILINE) == ["500.0", "1000.0"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", ["--workers 0", "--rates 0", "--folder nowhere"])
def test_a_mistake_gets_one_clear_error(options, refused):
    assert options.split()[0] in refused(benchmark_writer.main, options.split())
