"""Names in the folder of a run and in its settings."""

from __future__ import annotations

import re

LOCKS = ".locks"
SETTINGS = "settings.yaml"
CLAIM = "claim.json"
METRICS, REPORT = "metrics.json", "report.html"
MEASURED = "measured.sha256"  # of all that metrics and report follow from, and of both, see eval/main_job/repeated.py
RESULTS = ("config.yaml", "decoding.json", METRICS, CLAIM, REPORT, MEASURED)  # what eval/fid.py adds
FILES = (SETTINGS, *RESULTS)  # of the run's own, beside the folders of its arms
BASELINE = "baseline"  # the arm that the others are compared with
OWN = ("reseed", "draft", "sampling", "resolved")  # what an arm may have beside its strategy
ARM_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of an arm's folder, given or read from settings.yaml
OF_IMAGES = ("labels", "images_per_class", "batch_size")  # settings that say which images there are
