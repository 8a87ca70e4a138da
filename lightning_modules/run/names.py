"""Names in the folder of a run."""

from __future__ import annotations

import re

LOCKS = ".locks"
SETTINGS = "settings.yaml"
CLAIM = "claim.json"
RESULTS = ("config.yaml", "decoding.json", "metrics.json", CLAIM, "report.html")  # what eval/fid.py adds
FILES = (SETTINGS, *RESULTS)  # of the run's own, beside the folders of its arms
ARM_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of an arm's folder, given or read from settings.yaml
