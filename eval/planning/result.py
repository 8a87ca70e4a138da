"""What a plan prints, and the config that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace
from rich.table import Table

import sdvar
from eval.cli.groups import ENGINE, MODELS
from eval.console import Page, ms
from lightning_modules.arms.strategies import as_config
from lightning_modules.options import plain_yaml
from sdvar.planning.agreement import Agreement
from sdvar.planning.candidates import Candidate
from sdvar.planning.comparison import Timed, speed
from sdvar.system.atomic import write_atomically

ARM = "planned"


def verdict(chosen: Candidate, candidates: list[Candidate], timed: dict[str, Timed]) -> list[str]:
    """Sentences that say what to use, and how fast it was.

    Args:
        chosen: what is recommended.
        candidates: all, the fastest by the model first.
        timed: what was measured.
    """
    fixed = min((one for one in candidates if one.fixed), key=lambda one: timed[one.name].median)
    if chosen.plain:
        lines = ["Use the baseline: at this batch size on this machine speculation does not pay."]
    else:
        lines = [
            f"Use {chosen.strategy!r}: {_speed(timed, chosen.name, 'baseline')} times the baseline's speed, "
            f"{_speed(timed, chosen.name, fixed.name)} times the best fixed gamma's ({fixed.strategy.gamma})."
        ]
    first = candidates[0]
    if chosen is not first:
        was = "the fastest of those it covers" if chosen.seconds is None else "faster"
        lines.append(
            f"The model expected {first.name} to be {was}; measured, {chosen.name} ran at "
            f"{_speed(timed, chosen.name, first.name)} times its speed."
        )
    return lines


def tokens_line(chosen: Candidate, timed: Timed) -> str:
    """What is known about the tokens of the strategy."""
    images, same = len(timed.differing), sum(share == 0 for share in timed.differing)
    if not chosen.strategy.exact:
        return (
            f"Lossy: {np.mean(timed.differing):.3f} of the tokens differ from the baseline's, "
            f"{chosen.differing:.3f} were expected ({images} images)."
        )
    if same == images:
        return f"Lossless: every token is the baseline's in all {images} images."
    near = sum(gap < sdvar.NEAR_TIE for gap in timed.score_gaps)
    return (
        f"Lossless: {same} of {images} images have every token of the baseline, {near} first differ by a near-tie of "
        f"rounding, {images - same - near} by more (largest score gap {max(timed.score_gaps):.2g})."
    )


def print_plan(
    head: str, agreement: Agreement, candidates: list[Candidate], chosen: Candidate, timed: dict[str, Timed],
    lines: list[str], simulated: bool,
) -> None:  # fmt: skip
    """Prints the result to stdout."""
    page = Page()
    page.say(head)
    page.say("accepted drafted scales, %: " + " ".join(f"{100 * share:.0f}" for share in agreement.accepted.mean(0)))
    if not simulated:
        page.say("tokens that agree, %:       " + " ".join(f"{100 * share:.0f}" for share in agreement.agreeing))
    turns = len(timed["baseline"].seconds)
    table = Table(
        title=f"milliseconds per batch without the tokenizer, and speed relative to the baseline: medians of {turns} "
        "turns; ± is twice the standard error",
        title_justify="left",
    )
    table.add_column("strategy", no_wrap=True)
    columns = ("expected", "measured", "expected\nspeed", "measured\nspeed", "target\ncalls")
    for column in (*columns, *(() if simulated else ("tokens that differ\nexpected", "measured"))):
        table.add_column(column, justify="right", no_wrap=True)
    plain = next(one for one in candidates if one.plain)
    for one in candidates:
        ours = timed[one.name]
        differing = () if simulated else (f"{one.differing:.3f}", f"{np.mean(ours.differing):.3f}")
        table.add_row(
            ("> " if one is chosen else "  ") + one.name,
            "-" if one.seconds is None else ms(one.seconds),
            ms(ours.median),
            "-" if one.seconds is None else f"{plain.seconds / one.seconds:.2f}",
            "1" if one is plain else "{:.2f} ± {:.2f}".format(*speed(ours, timed[plain.name])),
            f"{np.mean(ours.target_calls):.2f}",
            *differing,
        )
    page.print(table)
    for line in lines:
        page.say(line)


def write_config(file: str, options: Namespace, strategy: sdvar.Strategy, lines: list[str]) -> None:
    """Write what `eval/fid.py --config` takes.

    Args:
        file: its path.
        options: of the command.
        strategy: the arm beside the baseline.
        lines: comments at its head.

    Raises:
        OSError: if it cannot be written.
    """
    models = {name: options[name] for name in ("pair", *MODELS) if options[name] is not None}
    names = ("batch_size", "accelerator", "threads", "precision", *(name for name in ENGINE if name != "threads"))
    config: dict[str, Any] = {
        **models,
        "strategy": {ARM: as_config(strategy)},
        "sampling": options.sampling.as_dict(),
        **{name: options[name] for name in names if options[name] is not None},
        "out": f"runs/{Path(file).stem}",
    }
    text = "".join(f"# {line}\n" for line in lines)
    write_atomically(Path(file), (text + plain_yaml.dump(config)).encode())


def _speed(timed: dict[str, Timed], name: str, other: str) -> str:
    return f"{speed(timed[name], timed[other])[0]:.2f}"
