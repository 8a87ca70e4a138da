"""The package works when it is installed: in an environment of its own, from a folder that is not the repository's."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.proof


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    """The console script of a fresh environment, which sees the dependencies of this one and not the repository."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"  # building leaves files behind
    for name in ("sdvar", "lightning_modules", "eval"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'), end='')"
    packages = subprocess.check_output([python, "-c", where], text=True)
    # a plain path: the .pth files there, the repository's editable install among them, are not read
    (Path(packages) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    done = subprocess.run([*install, "--no-build-isolation", source], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return venv / "bin" / "sdvar"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """A user's folder with modules of the user's own, entered."""
    monkeypatch.chdir(tmp_path)
    for name in ("eval.py", "sdvar.py"):
        Path(name).write_text("raise SystemExit('the wrong module')")
    return tmp_path


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def run(*arguments: str | Path) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_and_version(script, elsewhere):
    assert "benchmark" in run(script, "--help")
    assert run(script, "--version").strip() == version("sdvar")
    assert "--images_per_class" in run(script, "fid", "--help")


def test_the_main_job_and_what_follows_it(script, elsewhere):
    """On the bundled pair, with two processes, which Lightning starts by the script's own command line."""
    options = "--images_per_class 1 --batch_size 2 --threads 1 --accelerator cpu --devices 2 --out run"
    run(script, "fid", *options.split())
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["arms"]["speculative"]["images"] == 10 == len(list(Path("run/speculative").rglob("*.png")))
    assert metrics["arms"]["speculative"]["frechet_distance_to_reference"] > 0  # the bundled reference and network
    assert "<style>" in Path("run/report.html").read_text()
    run(script, "measure", "--out", "run", "--metrics", "is,prc")
    run(script, "export", "--out", "run", "--arm", "baseline", "baseline.npz")
    assert "checks passed" in run(script, "selftest", "--batch_size", "1")
