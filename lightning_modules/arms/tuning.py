"""What the arms of a run whose gamma is "auto" decode with: chosen once, and kept by the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import sdvar
from lightning_modules.arms.arm import Arm, is_auto
from lightning_modules.arms.strategies import as_config, from_config, own_classes
from lightning_modules.options import plain_yaml
from sdvar.planning.tuning import MOST_SECONDS, choose
from sdvar.system import steps


def unresolved(arm: Arm) -> bool:
    """Whether it is not yet known how the arm decodes."""
    return is_auto(arm.decoding)


def take_over(arms: Sequence[Arm], earlier: Mapping[str, Any]) -> list[Arm]:
    """The arms with what an earlier session of the run chose.

    Args:
        arms: as they are asked for.
        earlier: the arms of the run's settings, by name, as `Arm.describe` returns them.

    Raises:
        ValueError: the settings hold something that was not chosen.
    """
    return [_taken_over(arm, earlier.get(arm.name, {})) if unresolved(arm) else arm for arm in arms]


def _taken_over(arm: Arm, earlier: Mapping[str, Any]) -> Arm:
    asked, chosen = as_config(arm.strategy), earlier.get("resolved")
    if not chosen or any(earlier.get(key) != plain_yaml.load(plain_yaml.dump(asked[key])) for key in asked):
        return arm
    try:  # a folder may come from anywhere: it names no code to run
        resolved = from_config(chosen, own_classes(arm.strategy))
    except ValueError as error:
        raise ValueError(f"strategy {arm.name!r}: resolved: {error}") from None
    return dataclasses.replace(arm, resolved=resolved)


def tune(
    arms: Sequence[Arm],
    pairs: Mapping[str | None, sdvar.ModelPair],
    sampling: sdvar.Sampling,
    batch_size: int,
    batches: float,
) -> list[Arm]:
    """The arms with a strategy each; what is chosen is printed, a line per arm.

    Args:
        arms: as they are asked for.
        pairs: by an arm's own draft, on their device.
        sampling: of the run.
        batch_size: images decoded together.
        batches: that each arm decodes in this process.
    """
    count = sum(map(unresolved, arms)) or 1
    tuned = []
    for arm in arms:
        if unresolved(arm):
            pair, of_all = pairs[arm.draft], batches * len(arms) / count  # they share the time to spend
            steps.log.info("%s: measuring what pays to draft", arm.name)
            choice = choose(arm.strategy, pair, arm.sampling or sampling, batch_size, MOST_SECONDS / count, of_all)
            print(f"{arm.name}: {choice}", flush=True)
            arm = dataclasses.replace(arm, resolved=choice.strategy)
        tuned.append(arm)
    return tuned
