"""Reports of runs that are made here have no plots."""

from tests.unplotted import unplotted

__all__ = ["unplotted"]
