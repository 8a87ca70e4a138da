"""A grid of settings, written with lists, as the points that it describes."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from lightning_modules.arms.arm import Arm
from lightning_modules.arms.strategies import find_class
from lightning_modules.run.names import OWN


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
        strategy = {key: value for key, value in entry.items() if key not in OWN}
        own = {key: entry[key] for key in OWN if key in entry}
        for suffix, point in _combined(strategy | own, f"grid: {name}"):
            if name + suffix in points:
                raise ValueError(
                    f"grid: two points are called {name + suffix!r}; a list holds a value twice, or rename one"
                )
            points[name + suffix] = point
    return points


def refuse_twins(arms: Sequence[Arm]) -> None:
    """Raises ValueError if two arms differ in nothing but the name: the second would be decoded for nothing."""
    seen: dict[Arm, str] = {}
    for arm in arms:
        first = seen.setdefault(dataclasses.replace(arm, name="twin"), arm.name)
        if first != arm.name:
            raise ValueError(f"grid: the points {first!r} and {arm.name!r} are the same; remove one")


def _combined(
    config: Mapping[str, Any], where: str, named: bool = False, listed: Sequence[str] = ()
) -> list[tuple[str, dict[str, Any]]]:
    """Every combination of what the values of a mapping may be: what each adds to the point's name, and the mapping.

    Args:
        config: parameters, or a class and its arguments.
        where: as errors name it.
        named: all parameters and the class are in the name, not only what varies.
        listed: parameters that take a list.
    """
    ways = []
    for key, value in config.items():
        if key == "class_path":
            ways.append([(f"_{_word('', value)}" if named else "", value)])
        elif key == "init_args" and "class_path" in config:
            if not isinstance(value or {}, Mapping):
                raise ValueError(f"{where}: init_args: expected a mapping, got {value!r}")
            ways.append(_combined(value or {}, where, named, _listed(config["class_path"])))
        else:
            ways.append(_ways(key, value, f"{where}: {key}", named, key in listed))
    return [
        ("".join(suffix for suffix, _ in chosen), dict(zip(config, (value for _, value in chosen))))
        for chosen in itertools.product(*ways)
    ]


def _ways(key: str, value: Any, where: str, named: bool, listed: bool) -> list[tuple[str, Any]]:
    """The same for one parameter; ``listed`` says that it takes a list."""
    varied = isinstance(value, list) and (not listed or any(isinstance(choice, list) for choice in value))
    if varied and not value:
        raise ValueError(f"{where}: expected at least one value, got an empty list")
    ways: list[tuple[str, Any]] = []
    for choice in value if varied else [value]:
        if isinstance(choice, Mapping):
            ways += _combined(choice, where, varied, ("temperature",))
        else:
            ways.append((f"_{_word(key, choice)}" if varied or named else "", choice))
    return ways


def _listed(class_path: Any) -> list[str]:
    """Parameters of a class that take a list."""
    try:
        cls = find_class(str(class_path))
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
