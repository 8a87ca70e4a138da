"""An arm of a run: one way of decoding its images, from a config and back."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentError

import sdvar
from lightning_modules import pair_source
from lightning_modules.command_line import ArgumentParser
from sdvar.command_line import did_you_mean

BASELINE = "baseline"  # the arm that the others are compared with
OWN = ("reseed", "draft", "sampling")  # what an arm may have beside its strategy
BASES = (sdvar.Strategy, sdvar.Acceptance, sdvar.Schedule)  # nothing else is made from a config


@dataclass(frozen=True)
class Arm:
    """One way of decoding the images of a run.

    Args:
        name: names the arm's folder: letters, digits, `_`, `-` and `.`.
        strategy: how its images are decoded.
        reseed: decode with other seeds. Such an arm shows how far two sets of images differ by chance alone.
        draft: checkpoint of a draft of its own in place of the pair's, see `PairFiles`.
        sampling: of its own in place of the run's.

    Raises:
        ValueError: the name cannot be that of a folder, or the baseline is something else.
    """

    name: str
    strategy: sdvar.Strategy
    reseed: bool = False
    draft: str | None = None
    sampling: sdvar.Sampling | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", self.name):
            raise ValueError(f"strategy: {self.name!r} cannot name an arm; use letters, digits, '_', '-' and '.'")
        own = [name for name in OWN if getattr(self, name)]
        if self.name == BASELINE and (own or self.strategy != sdvar.Baseline()):
            raise ValueError(
                f"strategy: the arm {BASELINE!r} must be sdvar.Baseline() with the run's seeds and sampling, got "
                f"{self.strategy}{' with its own ' + ', '.join(own) if own else ''}"
            )

    @property
    def lossless(self) -> bool:
        """Whether its images are distributed as the baseline's."""
        return self.strategy.lossless and self.sampling is None

    @property
    def exact(self) -> bool:
        """Whether its images have the baseline's tokens."""
        return self.strategy.exact and self.sampling is None

    @property
    def kind(self) -> str:
        """How it decodes, in one word: target or draft (one model alone), or the strategy's class in lower case."""
        if isinstance(self.strategy, sdvar.Baseline):
            return self.strategy.model
        return type(self.strategy).__name__.lower()

    def config(self) -> dict[str, Any]:
        """The arm as a config states it, complete: class_path, init_args and what it has of its own."""
        own = {name: getattr(self, name) for name in ("reseed", "draft") if getattr(self, name)}
        if self.sampling:
            own["sampling"] = dataclasses.asdict(self.sampling)
        return as_config(self.strategy) | own

    def describe(self) -> dict[str, Any]:
        """What its images depend on and what a report says of it, in plain values that need no class to be read."""
        digest = {"draft_sha256": pair_source.digest(self.draft)} if self.draft else {}
        shown = {"kind": self.kind, "lossless": self.lossless, "exact": self.exact, "text": str(self.strategy)}
        return self.config() | digest | shown


def build_arm(name: str, config: Mapping[str, Any], sampling: sdvar.Sampling | None = None) -> Arm:
    """An arm from a config.

    Args:
        name: of the arm.
        config: class_path, init_args, and reseed, draft and sampling where they differ from the run's; of sampling only
            what differs. A class of `sdvar` may be named without its module; any other is ``module.Class``, from a
            module that can be imported, if need be from the working directory.
        sampling: of the run.

    Raises:
        ValueError: naming the arm and what is wrong with it.
    """
    where = f"strategy {name!r}"
    if not isinstance(config, Mapping) or not isinstance(config.get("class_path"), str):
        raise ValueError(f"{where}: expected a mapping with class_path and init_args, got {config!r}")
    reseed, draft = config.get("reseed", False), config.get("draft")
    if not isinstance(reseed, bool):
        raise ValueError(f"{where}: reseed: expected true or false, got {reseed!r}")
    if draft is not None and not isinstance(draft, str):
        raise ValueError(f"{where}: draft: expected a checkpoint (file or hf://OWNER/REPO/FILE), got {draft!r}")
    try:
        strategy = _build({key: value for key, value in config.items() if key not in OWN})
        own = _own_sampling(config.get("sampling"), sampling or sdvar.Sampling())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None
    return Arm(name, strategy, reseed, draft, own)


def build_arms(arms: Mapping[str, Mapping[str, Any]], sampling: sdvar.Sampling | None = None) -> list[Arm]:
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


def as_config(value: Any) -> Any:
    """A strategy, or a value of one, as a config states it."""
    if isinstance(value, BASES):
        cls = type(value)
        _check_dataclass(cls)
        arguments = {part.name: as_config(getattr(value, part.name)) for part in dataclasses.fields(value) if part.init}
        return {"class_path": import_path(cls)} | ({"init_args": arguments} if arguments else {})
    return list(map(as_config, value)) if isinstance(value, list | tuple) else value


def import_path(cls: type) -> str:
    """Where a class is imported from: `sdvar.Coupled`, `my_rules.Typical`."""
    public = getattr(sdvar, cls.__name__, None) is cls
    return f"{'sdvar' if public else cls.__module__}.{cls.__qualname__}"


def find_class(class_path: str, base: type | tuple[type, ...] = BASES) -> type:
    """A strategy, an acceptance rule or a schedule.

    Args:
        class_path: of a class of `sdvar`, with or without ``sdvar.``, or ``module.Class``.
        base: what it must derive from.

    Raises:
        ValueError: there is no such class, or it is something else.
    """
    module, _, name = class_path.rpartition(".")
    if module in ("", "sdvar"):
        shipped = _shipped(base)
        if name not in shipped:
            expected = f"expected one of {', '.join(shipped)}" + ("" if module else ", or module.Class")
            raise ValueError(f"{expected}, got {class_path!r}{did_you_mean(name, shipped)}")
        return getattr(sdvar, name)
    if not all(part.isidentifier() for part in class_path.split(".")):
        raise ValueError(f"expected module.Class, got {class_path!r}")
    found = getattr(_import(module, class_path), name, None)
    bases = base if isinstance(base, tuple) else (base,)
    if not (isinstance(found, type) and issubclass(found, bases)):
        expected = "expected a subclass of " + " or ".join(f"sdvar.{cls.__name__}" for cls in bases)
        names = [key for key, value in vars(sys.modules[module]).items() if isinstance(value, type)]
        raise ValueError(f"{expected}, got {class_path!r}{did_you_mean(name, names) if found is None else ''}")
    _check_dataclass(found)
    return found


def find_own_modules() -> None:
    """Lets modules be imported from the working directory, after all that is installed."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _import(module: str, class_path: str) -> Any:
    find_own_modules()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ValueError(f"{class_path}: {module} cannot be imported: {error}") from None
        raise ValueError(
            f"{class_path}: no module {error.name!r}; its file must be installed or lie in the working directory"
        ) from None
    except Exception as error:  # whatever a user's file does
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{class_path}: {module} cannot be imported: {said}") from None


def _check_dataclass(cls: type) -> None:
    if not (dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen):
        raise ValueError(
            f"{import_path(cls)}: expected a frozen dataclass, whose arguments are stored with the images; write "
            "@dataclass(frozen=True) before the class"
        )


def _shipped(base: type | tuple[type, ...]) -> list[str]:
    """Names of the strategies, rules and schedules of sdvar that derive from ``base``."""
    public = {name: getattr(sdvar, name) for name in sdvar.__all__}
    return sorted(
        name
        for name, cls in public.items()
        if isinstance(cls, type) and issubclass(cls, base) and not inspect.isabstract(cls)
    )


def _build(config: Mapping[str, Any]) -> sdvar.Strategy:
    """A strategy by jsonargparse, which checks types and makes nothing but subclasses of what an argument is."""
    parser = ArgumentParser()
    parser.add_argument("--strategy", type=sdvar.Strategy)
    resolved = _resolve(config, sdvar.Strategy)
    try:
        return parser.instantiate(parser.parse_object({"strategy": resolved})).strategy
    except ArgumentError as error:
        message = re.sub(r"Problem with given class_path '[\w.]+': |Parser key \"strategy\": ", "", str(error))
        message = re.sub(r'Parser key "([\w.]+)": ', r"\1: ", message)
        message = re.sub(r"Does not validate against any .*? Errors: (.*?) Given value type.*", r"\1", message)
        message = re.sub(r"Expected a <class '(\w+)'>(?:\. Got value: (.*))?", _expected, message)
        message = re.sub(r"Expected a dot import path string: (.*)", r"expected a class, got '\1'", message)
    except (TypeError, ValueError) as error:
        message = str(error)
    raise ValueError(message + _nearest_class(resolved))


def _expected(found: re.Match[str]) -> str:
    return f"expected {found[1]}" + (f", got {found[2]!r}" if found[2] else "")


def _resolve(config: Mapping[str, Any], base: type | tuple[type, ...] = BASES) -> dict[str, Any]:
    """A config with its classes' import paths in full, refused where a class or an argument does not exist."""
    unknown = sorted(set(config) - {"class_path", "init_args"})
    if unknown:
        allowed = ("class_path", "init_args", *OWN)
        raise ValueError(f"unknown key {unknown[0]}; expected {', '.join(allowed)}{did_you_mean(unknown[0], allowed)}")
    cls, given = find_class(str(config["class_path"]), base), config.get("init_args") or {}
    parameters = {part.name: part for part in dataclasses.fields(cls) if part.init}
    for key in given:
        if key not in parameters:
            has = f"it has {', '.join(parameters) or 'none'}{did_you_mean(key, parameters)}"
            raise ValueError(f"{cls.__name__} has no parameter {key!r}; {has}")
    for key, part in parameters.items():
        if key not in given and part.default is part.default_factory is dataclasses.MISSING:
            raise ValueError(f"{cls.__name__} needs the parameter {key!r}")
    return {"class_path": import_path(cls), "init_args": {key: _resolve_value(key, v) for key, v in given.items()}}


def _resolve_value(key: str, value: Any) -> Any:
    if isinstance(value, str) and (value.removeprefix("sdvar.") in _shipped(BASES) or _is_class_path(value)):
        value = {"class_path": value}
    if not (isinstance(value, Mapping) and "class_path" in value):
        return value
    try:
        return _resolve(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _is_class_path(text: str) -> bool:
    """Whether a word means a class of a module: my_rules.Typical, but not a file or a decimal number."""
    *modules, name = text.split(".")
    return bool(modules) and all(map(str.isidentifier, modules)) and name.isidentifier() and name[0].isupper()


def _nearest_class(config: Mapping[str, Any]) -> str:
    """The nearest class to a word that should have been one."""
    words = [value for value in config["init_args"].values() if isinstance(value, str)]
    return next(filter(None, (did_you_mean(word, _shipped(BASES)) for word in words)), "")


def _own_sampling(given: Any, sampling: sdvar.Sampling) -> sdvar.Sampling | None:
    """An arm's sampling; None where it is the run's."""
    known = [part.name for part in dataclasses.fields(sampling)]
    if given is not None and not (isinstance(given, Mapping) and set(given) <= set(known)):
        raise ValueError(f"sampling: expected a mapping of {', '.join(known)}, got {given!r}")
    try:
        own = dataclasses.replace(sampling, **(given or {}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"sampling: {error}") from None
    return None if own == sampling else own
