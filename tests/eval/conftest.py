"""Fixtures of the report's tests."""

import pytest

from tests.eval.finished_run import arms, write_run


@pytest.fixture
def run_folder(tmp_path):
    """A finished run of the five default arms, made up."""
    return write_run(tmp_path / "run", arms())
