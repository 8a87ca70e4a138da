"""Strategies, acceptance rules and schedules from class paths, those of a user's own too, and back."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sdvar
from lightning_modules.arms.expressions import is_call, split_call
from sdvar.checkpoints import sha256
from sdvar.system.command_line import did_you_mean

BASES = (sdvar.Strategy, sdvar.Acceptance, sdvar.Schedule)  # nothing else is made from a config
CLASS_PATH = re.compile(r"([A-Za-z_]\w*\.)+[A-Za-z_]\w*|[A-Z]\w*")  # my_rules.Typical, Coupled; not auto, 0.5


def as_config(value: Any) -> Any:
    """A strategy, or a value of one, as a config file states it: class_path and init_args, complete."""
    if isinstance(value, BASES):
        _check_dataclass(type(value))
        arguments = {part.name: as_config(getattr(value, part.name)) for part in dataclasses.fields(value) if part.init}
        return {"class_path": import_path(type(value))} | ({"init_args": arguments} if arguments else {})
    return list(map(as_config, value)) if isinstance(value, list | tuple) else value


def from_config(config: Any, own: Mapping[str, type] | None = None) -> sdvar.Strategy:
    """A strategy from what `as_config` made of it. The config may come from anybody: nothing is imported for it.

    Args:
        config: class_path and init_args, complete.
        own: classes beside those of `sdvar` that it may name, by their import paths.

    Raises:
        ValueError: it names another class, or arguments that the class does not take.
    """
    try:
        built = _built(config, {f"sdvar.{name}": cls for name, cls in shipped().items()} | dict(own or {}))
    except RecursionError:
        raise ValueError("expected a class and its arguments, got lists or mappings far too deep") from None
    if not isinstance(built, sdvar.Strategy):
        raise ValueError(f"expected class_path and init_args of a strategy, got {config!r:.100}")
    return built


def _built(config: Any, classes: Mapping[str, type]) -> Any:
    if isinstance(config, list):
        return tuple(_built(one, classes) for one in config)
    if not isinstance(config, Mapping):
        return config
    class_path, arguments = config.get("class_path"), config.get("init_args", {})
    cls = classes.get(class_path) if isinstance(class_path, str) else None
    if cls is None:
        raise ValueError(f"expected classes of sdvar, got {class_path!r:.100}")
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        raise ValueError(f"{class_path}: init_args: expected a mapping of names, got {arguments!r:.100}")
    if unknown := [*(config.keys() - {"class_path", "init_args"}), *(arguments.keys() - _arguments(cls))]:
        raise ValueError(f"{class_path}: unknown argument {unknown[0]!r:.100}")
    try:
        return cls(**{name: _built(value, classes) for name, value in arguments.items()})
    except TypeError as error:
        raise ValueError(f"{class_path}: {error}") from None


def _arguments(cls: type) -> set[str]:
    return {part.name for part in dataclasses.fields(cls) if part.init}


def import_path(cls: type) -> str:
    """Where a class is imported from: `sdvar.Coupled`, `my_rules.Typical`."""
    public = getattr(sdvar, cls.__name__, None) is cls
    return f"{'sdvar' if public else cls.__module__}.{cls.__qualname__}"


def own_classes(value: Any) -> dict[str, type]:
    """The classes in a strategy, or in a value of one, that are not of sdvar, by their import paths."""
    own = [cls for cls in type(value).__mro__ if issubclass(cls, BASES) and not cls.__module__.startswith("sdvar.")]
    classes = {import_path(cls): cls for cls in own}
    parts = value if isinstance(value, list | tuple) else ()
    if isinstance(value, BASES):
        parts = [getattr(value, part.name) for part in dataclasses.fields(value)]
    for part in parts:
        classes |= own_classes(part)
    return classes


def own_sources(value: Any) -> dict[str, str]:
    """SHA-256 of the source file of each of these classes."""
    own = own_classes(value)
    return {name: sha256(Path(file)) for name, cls in own.items() if (file := inspect.getsourcefile(cls))}


def resolve(value: Any, base: type = sdvar.Strategy) -> Any:
    """A config with the full import path of each class, for jsonargparse, which checks everything else.

    Args:
        value: a class path, alone or with arguments as in `Spans((3, 1))`, a mapping with class_path and init_args, a
            list of these, or a value that is no class.
        base: what the classes must derive from.

    Raises:
        ValueError: there is no such class; the message names the nearest one.
    """
    if isinstance(value, list):
        return [resolve(one, base) for one in value]
    small = {name.lower() for name in shipped(base)}  # spans, in which the mistake is the case
    if isinstance(value, str) and (CLASS_PATH.fullmatch(value) or is_call(value) or value.lower() in small):
        value = {"class_path": value}
    if not (isinstance(value, Mapping) and "class_path" in value):
        return value
    cls, within = _with_arguments(str(value["class_path"]), base)
    arguments = value.get("init_args") or {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"init_args: expected a mapping, got {arguments!r}")
    if twice := sorted(within.keys() & arguments.keys()):
        raise ValueError(f"{twice[0]}: given twice, in {value['class_path']!r} and beside it")
    arguments = within | dict(arguments)
    for part in dataclasses.fields(cls):
        inner = next((base for base in BASES if base.__name__ in str(part.type)), None)
        if inner and part.name in arguments:
            try:
                arguments[part.name] = resolve(arguments[part.name], inner)
            except ValueError as error:
                raise ValueError(f"{part.name}: {error}") from None
    return {**value, "class_path": import_path(cls), "init_args": arguments}


def shipped(base: type | tuple[type, ...] = BASES) -> dict[str, type]:
    """The classes of `sdvar` that derive from a base, by name."""
    public = ((word, getattr(sdvar, word)) for word in sorted(sdvar.__all__))
    classes = {word: cls for word, cls in public if isinstance(cls, type) and issubclass(cls, base)}
    return {word: cls for word, cls in classes.items() if not inspect.isabstract(cls)}


def _with_arguments(text: str, base: type) -> tuple[type, dict[str, Any]]:
    """A class and the arguments that are given with it, `Spans((3, 1))`, by name."""
    if not is_call(text):
        return find_class(text, base), {}
    class_path, positional, named = split_call(text)
    cls = find_class(class_path, base)
    names = [part.name for part in dataclasses.fields(cls) if part.init]
    if len(positional) > len(names):
        raise ValueError(f"{class_path}: expected at most {len(names)} arguments, got {len(positional)}")
    arguments = dict(zip(names, positional))
    if twice := sorted(arguments.keys() & named.keys()):
        raise ValueError(f"{class_path}: {twice[0]}: given twice")
    return cls, arguments | named


def find_class(class_path: str, base: type | tuple[type, ...] = BASES) -> type:
    """A strategy, an acceptance rule or a schedule.

    Args:
        class_path: of a class of `sdvar`, with or without ``sdvar.``, or ``module.Class``; the module can be imported,
            if need be from the working directory.
        base: what it must derive from.

    Raises:
        ValueError: there is no such class, or it is something else.
    """
    module, _, name = class_path.rpartition(".")
    if module in ("", "sdvar"):
        classes = shipped(base)
        if name not in classes:
            expected = f"expected one of {', '.join(classes)}" + ("" if module else ", or module.Class")
            raise ValueError(f"{expected}, got {class_path!r}{did_you_mean(name, classes)}")
        return classes[name]
    if not CLASS_PATH.fullmatch(class_path):
        raise ValueError(f"expected module.Class, got {class_path!r}")
    found = getattr(_import(module, class_path), name, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        bases = base if isinstance(base, tuple) else (base,)
        expected = "expected a subclass of " + " or ".join(f"sdvar.{cls.__name__}" for cls in bases)
        names = [key for key, value in vars(sys.modules[module]).items() if isinstance(value, type)]
        raise ValueError(f"{expected}, got {class_path!r}{did_you_mean(name, names) if found is None else ''}")
    _check_dataclass(found)
    return found


def _import(module: str, class_path: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # after everything that is installed
    try:
        return importlib.import_module(module)
    except Exception as error:  # whatever a user's file does
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            reason = f"no module {error.name!r}; its file must be installed or lie in the working directory"
        else:
            reason = f"{module} cannot be imported: {' '.join(f'{type(error).__name__}: {error}'.split())}"
        raise ValueError(f"{class_path}: {reason}") from None


def _check_dataclass(cls: type) -> None:
    if not (dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen):
        raise ValueError(
            f"{import_path(cls)}: expected a frozen dataclass, whose arguments are stored with the images; write "
            "@dataclass(frozen=True) before the class"
        )
