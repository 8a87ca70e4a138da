"""The arms on a command line, and the default ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from lightning_modules.options import plain_yaml
from lightning_modules.run.names import OWN
from sdvar.checkpoints.reading.hub import SHIPPED
from sdvar.system.command_line import expand_home, join_flags

NOISE_FLOOR = "baseline_reseeded"
RESEEDED = {"class_path": "Baseline", "reseed": True}


def default_arms(scales: int, pair: str | None = None) -> dict[str, dict[str, Any]]:
    """The arms beside the baseline where none are given: lossless; the last three and the last two scales left to the
    draft, which hold most of the tokens; and the baseline with other seeds, the noise floor. A draft made for the tail
    of a bundled pair does better from scale 1 on than the pair's own does from the last three.

    Args:
        scales: K, of the models.
        pair: name of the bundled pair, where they are one.
    """
    tail, handoff = max(0, scales - 3), max(0, scales - 2)
    drafted = {"class_path": "Speculative", "init_args": {"gamma": "auto", "verify_scales": tail}}
    made_for_it = {"class_path": "Handoff", "init_args": {"entry": 1, "first": "target"}, "draft": f"{pair}-tail"}
    return {
        "speculative": {"class_path": "Speculative", "init_args": {"gamma": "auto", "acceptance": "Coupled"}},
        "tail": made_for_it if made_for_it["draft"] in SHIPPED else drafted,
        "handoff": {"class_path": "Handoff", "init_args": {"entry": handoff, "first": "target"}},  # CoDe's order
        NOISE_FLOOR: RESEEDED,
    }


NAMED = re.compile(r"(?:([^=(]*)=)?(.*)", re.DOTALL)  # NAME=CLASS, or CLASS, whose arguments may have = too
SEQUENCE = re.compile(r"[^,\[({'\"]+(,[^,\[({'\"]+)+,?")


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Takes the ``--strategy`` options out of a command line.

    ``--strategy [NAME=]CLASS`` begins an arm and ``--strategy.PARAMETER VALUE`` belongs to the last one begun; the
    parameters of a class given as a value follow it (``--strategy.acceptance Match --strategy.acceptance.tau 0.5``).
    A class may have its arguments with it, as reports show it: ``Speculative(gamma=Spans((3, 1, 1, 1)))``.
    Without a name an arm is named after its class, in lower case.

    Returns:
        The other arguments, and the arms as a config file has them.

    Raises:
        ValueError: a parameter before any ``--strategy``, a value missing, or two arms of one name.
    """
    others: list[str] = []
    arms: dict[str, dict[str, Any]] = {}
    rest = iter(join_flags(arguments, {"--strategy.reseed"}, alone=False))
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
            name, class_path = (part and part.strip() for part in NAMED.fullmatch(value).groups())
            name = name or class_path.partition("(")[0].rpartition(".")[2].lower()
            if name in arms:
                raise ValueError(f"--strategy: two arms are called {name!r}; give one another name: NAME={class_path}")
            arms[name] = {"class_path": class_path}
        elif not arms:
            raise ValueError(f"{option}: expected --strategy [NAME=]CLASS before its parameters")
        else:
            _set(list(arms.values())[-1], option.split(".")[1:], _value(option, value))
    return others, arms


def _value(option: str, text: str) -> Any:
    """A parameter's value: a number, a word, true or false, or numbers with commas between."""
    try:
        if SEQUENCE.fullmatch(text):
            parts = [plain_yaml.load(part) for part in text.removesuffix(",").split(",")]
            if all(isinstance(part, int | float) for part in parts):
                return parts
        if text.startswith("(") and text.endswith(")"):
            text = f"[{text[1:-1]}]"
        return text if "(" in text else expand_home(plain_yaml.load(text))
    except yaml.YAMLError:
        raise ValueError(f"{option}: expected a number, a word or true/false, got {text!r}") from None


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
