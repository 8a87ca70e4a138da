"""An arm of a run: one way of decoding its images, from a config and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentError

import sdvar
from lightning_modules import pair_source
from lightning_modules.arms.strategies import as_config, own_sources, resolve
from lightning_modules.options.command_line import ArgumentParser
from lightning_modules.options.wording import reword
from lightning_modules.run.names import ARM_NAME, BASELINE, FILES, OWN
from sdvar.drafts import of_target
from sdvar.system.command_line import did_you_mean


@dataclass(frozen=True)
class Arm:
    """One way of decoding the images of a run.

    Args:
        name: names the arm's folder: letters, digits, `_`, `-` and `.`; not a file of the run's own.
        strategy: how its images are decoded.
        reseed: decode with other seeds. Such an arm shows how far two sets of images differ by chance alone.
        draft: of its own in place of the pair's: a checkpoint, or what is made of the target, see `PairFiles`.
        sampling: of its own in place of the run's.
        resolved: what decodes where the strategy's gamma is "auto": what was chosen for this run. None before that.

    Raises:
        ValueError: the name cannot be that of a folder, the baseline is something else, there is no such draft, or
            nothing to resolve.
    """

    name: str
    strategy: sdvar.Strategy
    reseed: bool = False
    draft: str | None = None
    sampling: sdvar.Sampling | None = None
    resolved: sdvar.Strategy | None = None

    def __post_init__(self) -> None:
        if not ARM_NAME.fullmatch(self.name):
            raise ValueError(f"strategy: {self.name!r} cannot name an arm; use letters, digits, '_', '-' and '.'")
        if self.name.lower() in FILES:
            raise ValueError(f"strategy: {self.name!r} cannot name an arm: the run has a file of that name")
        of_target(self.draft)
        own = [name for name in OWN if getattr(self, name)]
        if self.name == BASELINE and (own or self.strategy != sdvar.Baseline()):
            raise ValueError(
                f"strategy: the arm {BASELINE!r} must be sdvar.Baseline() with the run's seeds and sampling, got "
                f"{self.strategy}{' with its own ' + ', '.join(own) if own else ''}"
            )
        if self.resolved and (not is_auto(self.strategy) or is_auto(self.resolved)):
            raise ValueError(
                f"strategy {self.name!r}: resolved: expected a schedule that gamma 'auto' stands for, or none where "
                f"gamma is not 'auto'; got {self.resolved} for {self.strategy}"
            )

    @property
    def decoding(self) -> sdvar.Strategy:
        """The strategy that decodes: the one that was chosen, where the arm leaves it open."""
        return self.resolved or self.strategy

    @property
    def lossless(self) -> bool:
        """Whether its images are distributed as the baseline's."""
        return self.decoding.lossless and self.sampling is None

    @property
    def exact(self) -> bool:
        """Whether its images have the baseline's tokens."""
        return self.decoding.exact and self.sampling is None

    @property
    def kind(self) -> str:
        """How it decodes, in one word: target or draft (one model alone), or the strategy's class in lower case."""
        if isinstance(self.decoding, sdvar.Baseline):
            return self.decoding.model
        return type(self.decoding).__name__.lower()

    def config(self) -> dict[str, Any]:
        """The arm as a config states it, complete: class_path, init_args and what it has of its own."""
        own = {name: getattr(self, name) for name in ("reseed", "draft") if getattr(self, name)}
        if self.sampling:
            own["sampling"] = dataclasses.asdict(self.sampling)
        if self.resolved:
            own["resolved"] = as_config(self.resolved)
        return as_config(self.strategy) | own

    def describe(self) -> dict[str, Any]:
        """What its images depend on and what a report says of it, in plain values that need no class to be read."""
        digests = (
            {} if self.draft is None or of_target(self.draft) else {"draft_sha256": pair_source.digest(self.draft)}
        )
        if sources := own_sources(self.strategy):
            digests["source_sha256"] = sources
        shown = {"kind": self.kind, "lossless": self.lossless, "exact": self.exact, "text": str(self.decoding)}
        return self.config() | digests | shown


def is_auto(strategy: sdvar.Strategy) -> bool:
    """Whether the strategy is still to be chosen."""
    return isinstance(strategy, sdvar.Speculative) and strategy.auto


def build_arm(name: str, config: Mapping[str, Any] | str, sampling: sdvar.Sampling | None = None) -> Arm:
    """An arm from a config.

    Args:
        name: of the arm.
        config: the class, alone or with its arguments; or a mapping of class_path, init_args, and reseed, draft and
            sampling where they differ from the run's, of sampling only what differs; and resolved, which an earlier run
            chose. Classes as `lightning_modules.arms.strategies.find_class` takes them.
        sampling: of the run.

    Raises:
        ValueError: naming the arm and what is wrong with it.
    """
    where, run = f"strategy {name!r}", sampling or sdvar.Sampling()
    if isinstance(config, str):
        config = {"class_path": config}
    if not isinstance(config, Mapping) or not isinstance(config.get("class_path"), str):
        raise ValueError(f"{where}: expected a mapping with class_path and init_args, got {config!r}")
    allowed = ("class_path", "init_args", *OWN)
    for key in config:
        if key not in allowed:
            raise ValueError(f"{where}: unknown key {key}; expected {', '.join(allowed)}{did_you_mean(key, allowed)}")
    parser = ArgumentParser()
    parser.add_argument("--strategy", type=sdvar.Strategy)
    parser.add_argument("--reseed", type=bool, default=False)
    parser.add_argument("--draft", type=str | None)
    parser.add_argument("--sampling", type=sdvar.Sampling, default=run)
    parser.add_argument("--resolved", type=sdvar.Strategy | None)
    given = {key: value for key, value in config.items() if key in OWN and value is not None}
    if not isinstance(given.get("sampling", {}), Mapping):
        raise ValueError(f"{where}: sampling: expected a mapping, got {given['sampling']!r}")
    try:
        strategy = resolve({key: value for key, value in config.items() if key not in OWN})
        if "resolved" in given:
            given["resolved"] = resolve(given["resolved"])
        built = parser.instantiate(parser.parse_object({"strategy": strategy, **given}))
    except (ArgumentError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: {reword(str(error)).removeprefix('strategy: ')}") from None
    own = None if built.sampling == run else built.sampling
    return Arm(name, built.strategy, built.reseed, built.draft, own, built.resolved)


def build_arms(arms: Mapping[str, Mapping[str, Any] | str], sampling: sdvar.Sampling | None = None) -> list[Arm]:
    """The arms of a run; the baseline comes first and is always among them.

    Args:
        arms: by name the configs, as `build_arm` takes them.
        sampling: of the run.

    Raises:
        ValueError: as `build_arm`.
    """
    built = {BASELINE: Arm(BASELINE, sdvar.Baseline())}
    built |= {name: build_arm(name, config, sampling) for name, config in arms.items()}
    return list(built.values())
