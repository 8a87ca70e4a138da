"""The main job: decode, measure, report."""
