"""The files of the project agree: hooks and Makefile, requirements and pinned versions, imports."""

import ast
import collections
import configparser
import graphlib
import re
from pathlib import Path

import pytest
import yaml

from tests.paths import ROOT


def test_the_hooks_run_the_checks_of_make_test():
    target = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    checks = [*re.findall(r"-m (ruff \w+)", target), "mypy"]  # which tests/sdvar/test_types.py runs
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


FOLDERS = ("sdvar", "lightning_modules", "eval")  # each imports only itself and those before it


def imports(file: Path, modules: dict[str, Path]) -> set[str]:
    """The project's modules that a file imports anywhere in it: late, and for types alone, too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    found = {name for name in names if name in modules}
    packages = {name for name in found if modules[name].name == "__init__.py"}
    return found - {p for p in packages if any(name.startswith(f"{p}.") for name in found)}


def import_graph() -> dict[str, set[str]]:
    """By module of the project, the modules that it imports."""
    modules = {}
    for file in (file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        modules[name.removesuffix(".__init__")] = file
    return {name: imports(file, modules) - {name} for name, file in modules.items()}


def test_imports_go_one_way_without_circles():
    graph = import_graph()
    for name, found in graph.items():
        above = FOLDERS[FOLDERS.index(name.partition(".")[0]) + 1 :]
        assert not [other for other in found if other.partition(".")[0] in above], name
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("package", ("lightning_modules", "eval"))
def test_folders_import_each_other_one_way(package):
    rooms = {}
    for name, found in import_graph().items():
        for other in found:
            room, its = (".".join(module.split(".")[:2]) for module in (name, other))
            if room != its and room.startswith(f"{package}.") and its.startswith(f"{package}."):
                rooms.setdefault(room, set()).add(its)
    list(graphlib.TopologicalSorter(rooms).static_order())


def test_a_folder_has_at_most_a_dozen_files():
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py") if file.name != "__init__.py"]
    counts = collections.Counter(str(file.parent.relative_to(ROOT)) for file in files)
    assert not {folder: count for folder, count in counts.items() if count > 12}
