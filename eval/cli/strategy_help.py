"""What `--strategy.help` prints: the strategies, acceptance rules and schedules, with their parameters."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap

import sdvar
from lightning_modules.arms.strategies import shipped

TITLES = {
    sdvar.Strategy: "strategies: --strategy [NAME=]CLASS",
    sdvar.Schedule: "schedules: --strategy.gamma CLASS, of Speculative",
    sdvar.Acceptance: "acceptance rules: --strategy.acceptance CLASS, of Speculative",
}
MORE = """The parameters of a class follow it, or are given with it:
  --strategy Speculative --strategy.gamma Spans --strategy.gamma.scales 3,1,1,1
  --strategy "Speculative(gamma=Spans((3, 1, 1, 1)))"
An arm may also have --strategy.reseed, --strategy.draft FILE and --strategy.sampling.top_k K (cfg,
cfg_until, top_p, temperature).
More in docs/strategies.md; classes of your own: docs/acceptance-rules.md."""


def describe() -> str:
    """The text."""
    parts = []
    for base, title in TITLES.items():
        lines = [title]
        for name, cls in shipped(base).items():
            parameters = ", ".join(map(_parameter, (part for part in dataclasses.fields(cls) if part.init)))
            first = inspect.getdoc(cls).split("\n\n")[0] if cls.__doc__ else ""
            lines += [f"  {name}({parameters})", textwrap.indent(textwrap.fill(" ".join(first.split()), 110), "      ")]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, MORE])


def _parameter(part: dataclasses.Field) -> str:
    if part.default is not dataclasses.MISSING:
        return f"{part.name}={part.default!r}"
    if part.default_factory is not dataclasses.MISSING:
        return f"{part.name}={part.default_factory()!r}"
    return part.name
