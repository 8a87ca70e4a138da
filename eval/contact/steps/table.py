"""Step: the benchmark of the released sizes beside the roofline, and beside the original code where it is given."""

from __future__ import annotations

import gc
import shlex
import time
from typing import Any, NamedTuple

import torch

from eval.benchmarking import job
from eval.benchmarking.options import parse
from eval.contact.step import Outcome, Place, judged
from eval.estimates.memory import check_batch, free_bytes

GROWTH = 4  # a batch is left out if the one before it took more than this share of the time that is left
RESERVE = 15.0  # seconds that are left for the results


class Group(NamedTuple):
    """Strategies that share models.

    Attributes:
        name: in the table.
        models: options of `eval/benchmark.py`.
        strategies: the same, of those beside the baseline.
        original: whether the original code is measured with it.
    """

    name: str
    models: str
    strategies: str
    original: bool = False


TAILS = " ".join(
    f"--strategy tail_{scales}=Speculative --strategy.gamma 1 --strategy.verify_scales {scales}" for scales in (6, 8)
)
HANDOFF = "--strategy handoff=Handoff --strategy.entry 6 --strategy.first target"
ROUNDED = "--strategy target_int8=Baseline --strategy.model draft --strategy auto=Speculative"
EIGHT_BITS = "--strategy target_fp8=Baseline --strategy.model draft"
GROUPS = (
    Group("d16", "--random_weights d16", "--strategy Baseline", original=True),
    Group("d30, draft d16", "--random_weights d30,d16", f"{TAILS} {HANDOFF}", original=True),
    Group("d30, draft target:int8", "--random_weights d30 --draft target:int8", ROUNDED),
    Group("d30, draft target:fp8-dynamic", "--random_weights d30 --draft target:fp8-dynamic", EIGHT_BITS),
)
BATCHES = (1, 8, 64)
TINY_TAIL = "--strategy tail_4=Speculative --strategy.gamma 1 --strategy.verify_scales 4"
TINY_GROUPS = (
    Group("tiny", "--pair tiny", f"{TINY_TAIL} --strategy handoff=Handoff --strategy.entry 4 --strategy.first target"),
    Group("tiny, draft target:int8", "--pair tiny --draft target:int8", ROUNDED),
)
TINY_BATCHES = (1, 8)


def run(place: Place) -> Outcome:
    """Passed where something was measured and, if the original is given, its tokens are ours."""
    entries: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"reports": entries, "left_out": []}
    place.note(facts)
    problems = []
    if place.original:
        tokens = _original_tokens(place)
        facts["original_tokens"] = tokens
        if not tokens["equal_up_to_near_ties"]:
            problems.append(
                f"d16 in float32: {tokens['equal_images']} of {tokens['images']} images have the original's tokens"
            )
    for group in TINY_GROUPS if place.tiny else GROUPS:
        _measure_group(group, place, facts)
    if not entries:
        problems.append(f"nothing was measured: {'; '.join(facts['left_out'])}")
    rows = sum(len(entry["report"]["results"]) for entry in entries)
    left = f"; {len(facts['left_out'])} left out" if facts["left_out"] else ""
    return judged(problems, f"{rows} rows measured{left}", **facts)


def command_of(group: Group, place: Place, batch: int, precision: str = "bf16-true") -> list[str]:
    """The options of `eval/benchmark.py` that measure a group."""
    words = f"{group.models} {group.strategies} --precision {precision} --accelerator cuda --repeats 3".split()
    original = ["--original", place.original] if group.original and place.original else []
    return [*words, *original, "--batch_size", str(batch)]


def _measure_group(group: Group, place: Place, facts: dict[str, Any]) -> None:
    """Add what was measured to the facts, batch by batch, and what was not."""
    entries, left_out = facts["reports"], facts["left_out"]
    prepared, last = None, 0.0
    for batch in TINY_BATCHES if place.tiny else BATCHES:
        name, arguments = f"{group.name}, batch {batch}", command_of(group, place, batch)
        if last * GROWTH > place.left() - RESERVE or place.left() < RESERVE:
            left_out.append(f"{name}: no time was left")
            continue
        started = time.monotonic()
        try:
            options = parse(arguments)
            prepared = prepared or job.prepare(options)
            check_batch(batch, prepared.needed, free_bytes(place.device))
            report = job.run(options, prepared._replace(batch_sizes=[batch]))
        except ValueError as error:  # memory
            left_out.append(f"{name}: {error}")
            continue
        command = shlex.join(["python", "eval/benchmark.py", *arguments])
        entries.append({"group": group.name, "batch_size": batch, "command": command, "report": report})
        place.note(facts, f"{name}: {len(report['results'])} rows measured")
        last = time.monotonic() - started
    del prepared
    gc.collect()
    torch.cuda.empty_cache()


def _original_tokens(place: Place) -> dict[str, Any]:
    """How many images have the original's tokens, in float32."""
    options = parse([*command_of(GROUPS[0], place, 4, "32-true"), "--repeats", "1"])
    tokens = job.run(options, job.prepare(options))["original_tokens"]
    gc.collect()
    torch.cuda.empty_cache()
    return tokens
