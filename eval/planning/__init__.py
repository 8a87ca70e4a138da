"""The parts of `eval/plan.py`."""
