"""What README and docs show is so: commands parse and run, Python blocks run, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import sdvar
from eval.cli.main import COMMANDS
from tests.docs import documents
from tests.docs.documents import CONFIGS, MARKDOWN
from tests.docs.rules import module_of, parse, small, words_of
from tests.docs.workplace import make_workplace
from tests.paths import ROOT

SHOWN = [command for file in (*MARKDOWN, *CONFIGS) for command in documents.commands(file)]
PYTHON = [block for file in MARKDOWN for block in documents.blocks(file) if block.language == "python"]
CHEAP = "sdvar.checkpoints.__main__"  # its commands are run by the default tests too, in this process


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A user's folder, entered."""
    monkeypatch.chdir(make_workplace(tmp_path / "repository"))


@pytest.fixture(scope="module")
def place_to_parse(tmp_path_factory):
    return make_workplace(tmp_path_factory.mktemp("documents") / "repository")


def test_documents_show_the_main_commands():
    """The collector sees what a reader sees."""
    lines = [command.text for command in SHOWN if command.file.name == "README.md"]
    assert "make fid" in lines and "make test" in lines
    assert any("--strategy.acceptance.tau 0.5 --out" in line for line in lines)  # over several lines
    assert {"eval.fid", "sdvar.selftest.__main__"} < {
        module_of(words)[0] for one in SHOWN if (words := words_of(one.text))
    }
    assert len(PYTHON) >= 3


@pytest.mark.parametrize("command", dict.fromkeys(command.text for command in SHOWN))
def test_a_documented_command_is_understood(command, place_to_parse, monkeypatch):
    """By its own parser, every option of it."""
    monkeypatch.chdir(place_to_parse)
    if words := words_of(command):
        if "--help" in words and words[:2] != ["-m", "eval.cli.main"]:
            with pytest.raises(SystemExit) as stop:
                parse(words)
            assert stop.value.code == 0
        else:
            parse(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_a_help_are_understood(name, place_to_parse, monkeypatch, capsys):
    monkeypatch.chdir(place_to_parse)
    with pytest.raises(SystemExit):
        parse(["-m", "eval.cli.main", name, "--help"])
    shown = capsys.readouterr().out
    if name != "fit":  # Lightning's help of a sub-command has none of ours
        assert "python " in shown
    for line in documents._lines(shown):
        if line.startswith(documents.PROGRAMS):
            parse(words_of(line))


@pytest.mark.parametrize(
    "wrong", ["python eval/fid.py --images 3", "sdvar fidd", "python eval/none.py", "make nothing"]
)
def test_a_command_that_does_not_exist_is_noticed(wrong, place_to_parse, monkeypatch):
    monkeypatch.chdir(place_to_parse)
    with pytest.raises((AssertionError, ValueError)):
        parse(words_of(wrong))


@pytest.mark.parametrize("file", [file for file in MARKDOWN if documents.commands(file)], ids=lambda file: file.name)
def test_cheap_commands_run(file, workplace):
    from sdvar.checkpoints.__main__ import main

    for command in documents.commands(file):
        words = small(command.text)
        if words and module_of(words)[0] == CHEAP:
            assert main(module_of(words)[1]) == 0, command


@pytest.mark.proof
@pytest.mark.parametrize(
    "file", [file for file in (*MARKDOWN, *CONFIGS) if documents.commands(file)], ids=lambda file: file.name
)
def test_commands_run(file, workplace):
    """Every command that a reader may run, one after the other in one folder."""
    for command in dict.fromkeys(command.text for command in documents.commands(file)):
        words = small(command)
        if words is None:
            continue
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=env, timeout=600)
        assert done.returncode == 0, f"{command}\nrun as {words}\n{done.stdout}\n{done.stderr}"


def python_blocks():
    for block in PYTHON:
        long = "tests.enumeration" in block.text or "eval.run" in block.text  # 20,000 images; a whole run
        marks = pytest.mark.proof if long else ()
        yield pytest.param(block, marks=marks, id=f"{block.file.name}:{block.line}")


@pytest.mark.parametrize("block", python_blocks())
def test_python_blocks_run(block, workplace):
    text = block.text if torch.cuda.is_available() else block.text.replace('device="cuda"', 'device="cpu"')
    names = {"__name__": "__main__"}
    exec(compile("\n" * (block.line - 1) + text, block.file, "exec"), names)


def test_the_rule_of_the_documents_is_taken_by_a_config(workplace, monkeypatch):
    """docs/acceptance-rules.md: the class of its first block, named in a config as its YAML block says."""
    from lightning_modules import lightning_command

    arms = documents.blocks(ROOT / "docs" / "acceptance-rules.md")[1]
    config = yaml.safe_load(Path("configs/predict_tiny.yaml").read_text())
    config["model"]["init_args"] |= yaml.safe_load(arms.text)
    Path("predict.yaml").write_text(yaml.safe_dump(config))
    built = []
    monkeypatch.setattr(lightning_command.CommandLine, "predict", lambda self, **_: built.extend(self.model.arms))
    monkeypatch.syspath_prepend(".")
    lightning_command.run(["predict", "--config", "predict.yaml"])
    assert str(built[1].strategy) == "Speculative(gamma=3, acceptance=LikelyEnough(floor=0.1))"


@pytest.mark.parametrize("file", MARKDOWN, ids=lambda file: file.name)
def test_links_lead_somewhere(file):
    for link in documents.links(file):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        there = (file.parent / path) if path else file
        assert there.exists(), f"{file.name}: {link}"
        assert not anchor or anchor in documents.anchors(there), f"{file.name}: {link}"


def test_the_pages_of_docs_are_linked_from_the_readme():
    linked = {link.partition("#")[0] for link in documents.links(ROOT / "README.md")}
    assert {f"docs/{file.name}" for file in documents.PAGES} <= linked


def test_the_api_reference_lists_the_public_names():
    listed = re.findall(r"^::: sdvar\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(name for name in sdvar.__all__ if name != "__version__")


@pytest.mark.proof
def test_the_site_builds_without_a_warning_and_needs_no_other_host(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = {page.name for page in tmp_path.glob("*.html")}
    assert {file.with_suffix(".html").name for file in documents.PAGES} <= names
    for page in tmp_path.glob("*.html"):
        assert not re.search(r'(?:src="|<link[^>]* href=")(?:https?:)?//', page.read_text()), page
    assert 'id="sdvar.Speculative"' in (tmp_path / "api.html").read_text()


def test_the_citation_file_names_this_version():
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # what its schema requires
    assert cited["version"] == sdvar.__version__ and cited["license"] == setup["metadata"]["license"]
    assert f"## [{cited['version']}]" in (ROOT / "CHANGELOG.md").read_text()
    for work in cited["references"]:
        assert {"type", "title", "authors"} <= set(work)
