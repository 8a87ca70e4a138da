"""The arms of a run, from the command line or a config file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_modules.arm import Arm
    from sdvar import Sampling

OF_ARM = ("reseed", "draft", "sampling")  # what an arm may have beside its strategy
DEFAULT_ARMS = {
    "speculative": {"class_path": "Speculative", "init_args": {"gamma": 2, "acceptance": "Coupled"}},
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
    Without a name an arm is called like its class, in lower case.

    Returns:
        The other arguments, and the arms as a config file states them.

    Raises:
        ValueError: a parameter before any ``--strategy``, a value missing, or two arms of one name.
    """
    import yaml

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
    if keys[0] in OF_ARM:
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


def build_arms(arms: Mapping[str, Mapping[str, Any]], sampling: Sampling | None = None) -> list[Arm]:
    """The arms of a run; the baseline comes first and is always among them.

    Args:
        arms: name -> {class_path, init_args, reseed, draft, sampling}; the last two only where they differ from the
            run's, and of sampling only what differs.
        sampling: of the run.

    Raises:
        ValueError: naming the arm and what is wrong with it.
    """
    import sdvar
    from lightning_modules.arm import BASELINE, Arm
    from sdvar.command_line import did_you_mean

    built = {BASELINE: Arm(BASELINE, sdvar.Baseline())}
    strategies = _public_classes(sdvar.Strategy)
    for name, config in arms.items():
        where = f"strategy {name!r}"
        if not isinstance(config, Mapping) or not isinstance(config.get("class_path"), str):
            raise ValueError(f"{where}: expected a mapping with class_path and init_args, got {config!r}")
        class_name = config["class_path"].removeprefix("sdvar.")
        if class_name not in strategies:
            expected = f"expected one of {', '.join(strategies)}, got {config['class_path']!r}"
            raise ValueError(f"{where}: {expected}{did_you_mean(class_name, strategies)}")
        reseed, draft = config.get("reseed", False), config.get("draft")
        if not isinstance(reseed, bool):
            raise ValueError(f"{where}: reseed: expected true or false, got {reseed!r}")
        if draft is not None and not isinstance(draft, str):
            raise ValueError(f"{where}: draft: expected a checkpoint (file or hf://OWNER/REPO/FILE), got {draft!r}")
        own = _own_sampling(config.get("sampling"), sampling or sdvar.Sampling(), where)
        strategy = _build({key: value for key, value in config.items() if key not in OF_ARM}, where)
        built[name] = Arm(name, strategy, reseed, draft, own)
    return list(built.values())


def _own_sampling(given: Any, sampling: Sampling, where: str) -> Sampling | None:
    """An arm's sampling; None where it is the run's."""
    known = [part.name for part in dataclasses.fields(sampling)]
    if given is not None and not (isinstance(given, Mapping) and set(given) <= set(known)):
        raise ValueError(f"{where}: sampling: expected a mapping of {', '.join(known)}, got {given!r}")
    try:
        own = dataclasses.replace(sampling, **(given or {}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: sampling: {error}") from None
    return None if own == sampling else own


def _build(value: Any, where: str) -> Any:
    """A value of a config: an instance where it names a class of sdvar, else the value itself."""
    import sdvar
    from sdvar.command_line import did_you_mean

    classes = _public_classes(object)
    if isinstance(value, str) and value.removeprefix("sdvar.") in classes:
        value = {"class_path": value}
    if not isinstance(value, Mapping):
        return value
    unknown = set(value) - {"class_path", "init_args"}
    name = str(value.get("class_path")).removeprefix("sdvar.")
    if unknown or name not in classes:
        expected = f"expected class_path, a class of sdvar, and init_args, got {dict(value)}"
        raise ValueError(f"{where}: {expected}{did_you_mean(name, classes)}")
    cls = getattr(sdvar, name)
    parameters = {part.name: part for part in dataclasses.fields(cls)}
    given = value.get("init_args") or {}
    for key in given:
        if key not in parameters:
            has = f"it has {', '.join(parameters) or 'none'}{did_you_mean(key, parameters)}"
            raise ValueError(f"{where}: {name} has no parameter {key!r}; {has}")
    for key, part in parameters.items():
        if key not in given and part.default is part.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}: {name} needs the parameter {key!r}")
    try:
        return cls(**{key: _build(inner, f"{where}: {key}") for key, inner in given.items()})
    except (TypeError, ValueError) as error:
        if str(error).startswith(where):
            raise
        words = [inner for inner in given.values() if isinstance(inner, str)]  # one may be a class that there is not
        nearest = next(filter(None, (did_you_mean(word, classes) for word in words)), "")
        raise ValueError(f"{where}: {error}{nearest}") from None


def _public_classes(base: type) -> list[str]:
    """Names of the strategies, rules and schedules of sdvar that derive from ``base``."""
    import sdvar

    public = {name: getattr(sdvar, name) for name in sdvar.__all__}
    return sorted(
        name
        for name, cls in public.items()
        if isinstance(cls, type) and issubclass(cls, base) and dataclasses.is_dataclass(cls)
    )


def describe_arms(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """The arms as a config file states them."""
    return {arm.name: describe(arm.strategy) | _own(arm) for arm in arms}


def _own(arm: Arm) -> dict[str, Any]:
    """What an arm has of its own, `OF_ARM`."""
    own = {name: getattr(arm, name) for name in ("reseed", "draft") if getattr(arm, name)}
    return own | ({"sampling": dataclasses.asdict(arm.sampling)} if arm.sampling else {})


def describe(value: Any) -> Any:
    """A strategy, or a value of one, as a config file states it."""
    if not dataclasses.is_dataclass(value):
        return value
    arguments = {part.name: describe(getattr(value, part.name)) for part in dataclasses.fields(value)}
    return {"class_path": f"sdvar.{type(value).__name__}"} | ({"init_args": arguments} if arguments else {})
