"""A grid of settings, written with lists, as the points that it describes."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from lightning_modules.arm import OWN, Arm
from lightning_modules.strategies import find_class


def expand(grid: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The points of a grid, each an arm as a config file of `eval/fid.py` states it.

    An entry is such an arm in which any value may be a list: it gives one point for each combination of the values. Its
    points are named after the entry, with what varies added: `match` with `tau: [0.5, 0.7]` gives `match_tau0.5` and
    `match_tau0.7`. Where a value is a list already (the scales of `Spans`, a temperature a scale), a list of lists
    varies it.

    Args:
        grid: name -> {class_path, init_args, reseed, draft, sampling}.

    Raises:
        ValueError: an entry is not such a mapping, a list is empty, or two points have one name.
    """
    points: dict[str, dict[str, Any]] = {}
    for name, entry in grid.items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("class_path"), str):
            raise ValueError(f"grid: {name}: expected a mapping with class_path and init_args, got {entry!r}")
        own = {key: entry[key] for key in OWN if key in entry}
        strategy = {key: value for key, value in entry.items() if key not in own}
        ways = [_ways_of_class(strategy, f"grid: {name}"), *(_ways(k, v, f"grid: {name}") for k, v in own.items())]
        for (suffix, config), *others in itertools.product(*ways):
            point = "".join((name, suffix, *(suffix for suffix, _ in others)))
            if point in points:
                raise ValueError(f"grid: two points are called {point!r}; a list holds a value twice, or rename one")
            points[point] = {**config, **dict(zip(own, (value for _, value in others)))}
    return points


def refuse_twins(arms: Sequence[Arm]) -> None:
    """Raises ValueError if two arms differ in nothing but the name: the second would be decoded for nothing."""
    seen: dict[Arm, str] = {}
    for arm in arms:
        first = seen.setdefault(dataclasses.replace(arm, name="twin"), arm.name)
        if first != arm.name:
            raise ValueError(f"grid: the points {first!r} and {arm.name!r} are the same; remove one")


def _ways(key: str, value: Any, where: str, listed: bool = False) -> list[tuple[str, Any]]:
    """What one parameter may be: for each choice what it adds to the point's name, and the value.

    Args:
        key: the parameter.
        value: as the grid has it.
        where: as errors name it.
        listed: the parameter itself takes a list.
    """
    where = f"{where}: {key}"
    varied = isinstance(value, list) and (not listed or any(isinstance(choice, list) for choice in value))
    if varied and not value:
        raise ValueError(f"{where}: expected at least one value, got an empty list")
    ways: list[tuple[str, Any]] = []
    for choice in value if varied else [value]:
        if isinstance(choice, Mapping) and "class_path" in choice:
            ways += _ways_of_class(choice, where, named=varied)
        elif isinstance(choice, Mapping):
            ways += _combined(choice, where, named=varied)
        else:
            ways.append((f"_{_word(key, choice)}" if varied else "", choice))
    return ways


def _ways_of_class(config: Mapping[str, Any], where: str, named: bool = False) -> list[tuple[str, Any]]:
    """The same for a class and its arguments; ``named`` puts the class and all its arguments into the names."""
    arguments = config.get("init_args") or {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{where}: init_args: expected a mapping, got {arguments!r}")
    suffix = f"_{_word('', str(config['class_path']))}" if named else ""
    listed = _listed(str(config["class_path"]))
    others = {key: value for key, value in config.items() if key != "init_args"}
    return [
        (suffix + inner, {**others, "init_args": chosen} if chosen else dict(config))
        for inner, chosen in _combined(arguments, where, named, listed)
    ]


def _combined(
    values: Mapping[str, Any], where: str, named: bool, listed: Sequence[str] = ("temperature",)
) -> list[tuple[str, dict[str, Any]]]:
    """Every combination of what some parameters may be."""
    ways = []
    for key, value in values.items():
        choices = _ways(key, value, where, key in listed)
        if named and len(choices) == 1 and not choices[0][0]:
            choices = [(f"_{_word(key, value)}", choices[0][1])]
        ways.append(choices)
    return [
        ("".join(suffix for suffix, _ in chosen), dict(zip(values, (value for _, value in chosen))))
        for chosen in itertools.product(*ways)
    ]


def _listed(class_path: str) -> list[str]:
    """Parameters of a class that take a list."""
    try:
        cls = find_class(class_path)
    except ValueError:  # reported with its point, when the arm is built
        return []
    return [part.name for part in dataclasses.fields(cls) if re.match("tuple|list|Sequence", str(part.type))]


def _word(key: str, value: Any) -> str:
    """A parameter and its value in a point's name: gamma3, tau0.5, keep-draft, coupled, scales3-1x3, draft-var_d16."""
    if isinstance(value, str) and value.rpartition(".")[2][:1].isupper() and "/" not in value:  # a class
        word = value.rpartition(".")[2].lower()
    elif isinstance(value, list):
        runs = [(number, len(list(run))) for number, run in itertools.groupby(value)]
        word = key + "-".join(f"{number}x{count}" if count > 1 else f"{number}" for number, count in runs)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        word = f"{key}{value}"
    else:
        word = f"{key}-{PurePath(str(value)).stem}"
    return re.sub(r"[^A-Za-z0-9_.-]", "-", word)
