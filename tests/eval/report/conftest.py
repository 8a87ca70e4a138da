"""Here the plots are drawn."""

import pytest


@pytest.fixture
def unplotted() -> None:
    """Takes the place of that of tests/unplotted.py."""
