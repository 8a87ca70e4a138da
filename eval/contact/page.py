"""The page: what was found in Markdown, made of the content of the JSON file alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from eval.benchmarking.printing import main_cells, which
from eval.contact.bars import bars

RANDOM = "Weights of released sizes are random: they serve for times, and say nothing of quality or of acceptance."


def page(content: dict[str, Any]) -> str:
    """The page as one text."""
    lines = ["# First contact with a GPU", "", _verdict(content), ""]
    lines += [f"`{content['command']}`, {content['started']}, {content['seconds']:.0f} s, size {content['size']}.", ""]
    steps = content["steps"]
    rows = [(step["name"], step["verdict"] or "running", step.get("finding", "")) for step in steps]
    rows += [(name, "not run", "") for name in content["not_run"]]
    lines += ["## Steps", "", *_table(("step", "verdict", "finding"), rows), ""]
    warnings = [f"- {step['name']}: {line}" for step in steps for line in step.get("warnings", ())]
    if warnings:
        lines += ["## Warnings", "", *warnings, ""]
    facts = {step["name"]: step.get("facts", {}) for step in steps}
    if facts.get("environment"):
        lines += ["## Machine", "", *_machine(facts["environment"]), ""]
    if facts.get("table", {}).get("reports"):
        lines += ["## Speed", "", RANDOM, "", *_speed(facts["table"]), ""]
    failed = [step for step in steps if "traceback" in step.get("facts", {})]
    for step in failed:
        lines += [f"## Traceback of {step['name']}", "", "```", step["facts"]["traceback"].rstrip(), "```", ""]
    return "\n".join(lines)


def _verdict(content: dict[str, Any]) -> str:
    if content["passed"] is None:
        return "**Running.**"
    if content["passed"]:
        return "**Every step passed**, but for those that were skipped."
    return f"**Failed** at the step {content['steps'][-1]['name']}: {content['finding']}"


def _machine(facts: dict[str, Any]) -> list[str]:
    environment = facts["environment"]
    gpus = [
        f"- {gpu['name']}, compute capability {'.'.join(map(str, gpu['capability']))}, {gpu['multiprocessors']} "
        f"multiprocessors, {gpu['bytes'] / 1e9:.0f} GB"
        for gpu in facts["gpus"]
    ]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    libraries = {name: value for name, value in facts["libraries"].items() if name != "nvidia_smi"}
    lines = [*gpus, f"- {environment['processor']}", f"- Python {environment['python']}, {versions}"]
    lines.append("- " + ", ".join(f"{name} {value}" for name, value in libraries.items()))
    if facts["libraries"]["nvidia_smi"]:
        lines += ["", "```", facts["libraries"]["nvidia_smi"].rstrip(), "```"]
    return lines


def _speed(facts: dict[str, Any]) -> list[str]:
    cells = [
        [("models", entry["group"]), *which(result), *main_cells(result)]
        for entry in facts["reports"]
        for result in entry["report"]["results"]
    ]
    titles = [title.replace("\n", " ") for title, _ in cells[0]]
    lines = [*_table(titles, ([text for _, text in row] for row in cells)), ""]
    settings = facts["reports"][0]["report"]["settings"]
    lines.append(
        f"{settings['precision']}, tokenizer in {settings['tokenizer_dtype']}, medians of {settings['repeats']} runs; "
        "speed is the baseline's time over the row's, roofline the least time that the machine's measured rates allow."
    )
    if "original_tokens" in facts:
        tokens = facts["original_tokens"]
        lines.append(
            f"The original in float32, top_k 1: {tokens['equal_images']} of {tokens['images']} images have our tokens."
        )
    judged = bars(facts["reports"])
    if judged:
        rows = [(bar.name, bar.wanted, bar.measured, "yes" if bar.met else "NO") for bar in judged]
        lines += ["", "Bars, set for an H100 in bfloat16:", "", *_table(("what", "bar", "measured", "met"), rows)]
    if facts["left_out"]:
        lines += ["", "Left out:", "", *(f"- {line}" for line in facts["left_out"])]
    lines += [
        "",
        "Each is measured again by:",
        "",
        "```",
        *dict.fromkeys(entry["command"] for entry in facts["reports"]),
        "```",
    ]
    return lines


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *cells)]
