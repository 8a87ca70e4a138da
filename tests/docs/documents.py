"""What the documents show: their commands, Python blocks and links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.paths import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
MARKDOWN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PROGRAMS = ("python ", "sdvar ", "make ", "torchrun ", "srun ", "sbatch ")
SHELL = ("", "bash", "sh", "console")  # languages of a block that may hold commands


class Block(NamedTuple):
    """A fenced block."""

    file: Path
    line: int
    language: str
    text: str


class Command(NamedTuple):
    """A command as a document shows it, continued lines joined.

    Attributes:
        inline: whether it is in a sentence, not in a block of commands that are run one after the other.
    """

    file: Path
    text: str
    inline: bool = False

    def __str__(self) -> str:
        return f"{self.file.name}: {self.text}"


def blocks(file: Path) -> list[Block]:
    """The fenced blocks of a document."""
    text = file.read_text()
    found = re.finditer(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [Block(file, text[: match.start()].count("\n") + 2, match[1], match[2]) for match in found]


def commands(file: Path) -> list[Command]:
    """The commands of a document or of a config file's comments."""
    if file.suffix == ".yaml":
        comments = re.findall(r"^# (.*)$", file.read_text(), re.MULTILINE)
        shown = re.sub(r".*?\b(?=(?:python|sdvar|torchrun) )", "", "\n".join(comments)) if comments else ""
        return [Command(file, line) for line in _lines(shown) if line.startswith(PROGRAMS)]
    found = [Command(file, line) for block in blocks(file) if block.language in SHELL for line in _command_lines(block)]
    prose = re.sub(r"^ *```.*?^ *```$", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    found += [
        Command(file, " ".join(text.split()), inline=True)
        for text in re.findall(r"`([^`]+)`", prose)
        if text.startswith(PROGRAMS)
    ]
    return found


def _command_lines(block: Block) -> list[str]:
    lines = _lines(block.text)
    return lines if block.language else [line for line in lines if line.startswith(PROGRAMS)]


def _lines(text: str) -> list[str]:
    """The command lines of a script, without comments."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.replace("\\\n", " ").splitlines())
    return [" ".join(line.split()) for line in lines if line]


def links(file: Path) -> list[str]:
    """Targets of a document's links and pictures."""
    text = re.sub(r"^ *```.*?^ *```$", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(file: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    plain = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}
