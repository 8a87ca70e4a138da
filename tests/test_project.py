"""The files of the project agree: hooks and Makefile, requirements and pinned versions."""

import configparser
import re

import yaml

from tests.paths import ROOT


def test_the_hooks_run_the_checks_of_make_test():
    target = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    checks = re.findall(r"-m (ruff \w+|mypy)", target)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = [hook["entry"] for hook in hooks]
    assert checks == ["ruff check", "ruff format", "mypy"]
    assert all(any(check in entry for entry in entries) for check in checks) and "make test" in entries
    assert all(hook["language"] == "system" for hook in hooks)  # nothing is downloaded


def test_every_requirement_is_pinned_and_no_registry_is_named():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = setup["options"]["install_requires"] + "".join(setup["options.extras_require"].values())
    names = {re.match(r"[\w-]+", line)[0].replace("_", "-") for line in required.split()}
    pinned = (ROOT / "constraints.txt").read_text()
    assert names <= set(re.findall(r"^([\w-]+)==", pinned, re.MULTILINE))
    assert "://" not in pinned and "--index" not in pinned
