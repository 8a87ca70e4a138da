"""What is known so far: printed, and written as JSON and as a page after every step."""

from __future__ import annotations

import json
import shlex
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from eval.contact.page import page
from eval.contact.step import FAILED, Outcome, Step
from sdvar.system.atomic import write_atomically

NAME = "first_contact"


class Record:
    """The steps and their outcomes.

    Args:
        out: folder of both files.
        size: of the run, for the page.
    """

    def __init__(self, out: Path, size: str) -> None:
        self.out = out
        self._lock = threading.Lock()  # a step that is late is recorded from another thread
        self._started = self._begun = time.monotonic()
        self._over = False
        self.content: dict[str, Any] = {
            "command": shlex.join(["python", *sys.argv]),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "size": size,
            "passed": None,
            "finding": None,
            "seconds": 0.0,
            "steps": [],
            "not_run": [],
        }

    def begin(self, number: str, step: Step) -> None:
        """A step starts."""
        self._begun = time.monotonic()
        self.content["steps"].append({"name": step.name, "shows": step.shows, "verdict": None})
        print(f"{number} {step.name}: {step.shows} …", flush=True)

    def note(self, facts: dict[str, Any], line: str | None = None) -> None:
        """What the step has found so far."""
        self.content["steps"][-1]["facts"] = facts
        if line:
            print(f"      {line}", flush=True)

    def end(self, outcome: Outcome, warnings: list[str]) -> None:
        """The step that was started has ended."""
        with self._lock:
            if not self._over:
                self._write(outcome, warnings)

    def fail(self, problem: str) -> None:
        """The step that was started will not end."""
        with self._lock:
            self._over = True
            step = self.content["steps"][-1]
            self._write(Outcome(f"{step['name']} {problem}", FAILED, step.get("facts", {})), [])

    def _write(self, outcome: Outcome, warnings: list[str]) -> None:
        seconds = time.monotonic() - self._begun
        self.content["steps"][-1] |= {
            "verdict": outcome.verdict,
            "finding": outcome.finding,
            "seconds": seconds,
            "warnings": list(dict.fromkeys(warnings)),
            "facts": outcome.facts,
        }
        self.content["seconds"] = time.monotonic() - self._started
        if outcome.verdict == FAILED:
            self.content["passed"], self.content["finding"] = False, outcome.finding
        print(f"      {outcome.verdict} in {seconds:.1f} s: {outcome.finding}", flush=True)
        for line in self.content["steps"][-1]["warnings"]:
            print(f"      warning: {line}", flush=True)
        self._files()

    def close(self, steps: list[str]) -> int:
        """Write the last word; returns the exit status."""
        with self._lock:
            done = {step["name"] for step in self.content["steps"]}
            self.content["not_run"] = [name for name in steps if name not in done]
            self.content["passed"] = self.content["finding"] is None
            json_file, page_file = self._files()
        if not self.content["passed"]:
            name = self.content["steps"][-1]["name"]
            print(f"FAILED at the step {name}: {self.content['finding']}")
        print(f"{json_file} and {page_file}: please send both back.")
        return 0 if self.content["passed"] else 1

    def _files(self) -> tuple[Path, Path]:
        json_file, page_file = self.out / f"{NAME}.json", self.out / f"{NAME}.md"
        write_atomically(json_file, (json.dumps(self.content, indent=2) + "\n").encode())
        write_atomically(page_file, page(self.content).encode())
        return json_file, page_file
