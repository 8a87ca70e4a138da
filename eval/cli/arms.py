"""The arms on a command line, and the default ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from lightning_modules.arm import OWN

DEFAULT_ARMS = {
    "speculative": {"class_path": "Speculative", "init_args": {"gamma": "auto", "acceptance": "Coupled"}},
    "speculative_match": {
        "class_path": "Speculative",
        "init_args": {"gamma": 2, "acceptance": {"class_path": "Match", "init_args": {"tau": 0.5}}},
    },
    "handoff": {"class_path": "Handoff", "init_args": {"entry": 3, "first": "draft"}},
    "baseline_reseeded": {"class_path": "Baseline", "reseed": True},
}


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Takes the ``--strategy`` options out of a command line.

    ``--strategy [NAME=]CLASS`` begins an arm and ``--strategy.PARAMETER VALUE`` belongs to the last one begun; the
    parameters of a class given as a value follow it (``--strategy.acceptance Match --strategy.acceptance.tau 0.5``).
    Without a name an arm is named after its class, in lower case.

    Returns:
        The other arguments, and the arms as a config file has them.

    Raises:
        ValueError: a parameter before any ``--strategy``, a value missing, or two arms of one name.
    """
    others: list[str] = []
    arms: dict[str, dict[str, Any]] = {}
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if option != "--strategy" and not option.startswith("--strategy."):
            others.append(argument)
            continue
        if not equals:
            value = next(rest, None)
        if not value:
            raise ValueError(f"{option}: expected a value after it")
        if option == "--strategy":
            name, _, class_path = value.rpartition("=")
            name = name or class_path.rpartition(".")[2].lower()
            if name in arms:
                raise ValueError(f"--strategy: two arms are called {name!r}; give one another name: NAME={class_path}")
            arms[name] = {"class_path": class_path}
        elif not arms:
            raise ValueError(f"{option}: expected --strategy [NAME=]CLASS before its parameters")
        else:
            try:
                parsed = yaml.safe_load(value)
            except yaml.YAMLError:
                raise ValueError(f"{option}: expected a number, a word or true/false, got {value!r}") from None
            _set(arms[name], option.split(".")[1:], parsed)
    return others, arms


def _set(arm: dict[str, Any], keys: list[str], value: Any) -> None:
    """Sets one parameter, however deep, of an arm's config."""
    if keys[0] in OWN:
        if keys[0] == "sampling" and len(keys) == 2:
            arm.setdefault("sampling", {})[keys[1]] = value
        else:
            arm[keys[0]] = value
        return
    *outer, last = keys
    for key in outer:
        inner = arm.setdefault("init_args", {}).get(key)
        if not isinstance(inner, dict):
            if not isinstance(inner, str):
                raise ValueError(f"--strategy.{'.'.join(keys)}: expected --strategy.{'.'.join(outer)} CLASS before it")
            arm["init_args"][key] = {"class_path": inner}
        arm = arm["init_args"][key]
    arm.setdefault("init_args", {})[last] = value
