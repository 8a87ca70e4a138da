"""The options that say how tokens are drawn, and what is taken where nothing is given."""

from __future__ import annotations

import logging
import os
from typing import Any

from jsonargparse import Namespace

from lightning_modules.options.command_line import ArgumentParser
from sdvar.models.protocol import NextScaleModel
from sdvar.sampling import Sampling

BUNDLED_SAMPLING = {"cfg": 1.5, "top_k": 60, "top_p": 0.0, "temperature": 1.0}
RELEASED_SAMPLING = {"cfg": 1.5, "top_k": 900, "top_p": 0.96, "temperature": 1.0}  # of the released ImageNet models
SAMPLING = (*BUNDLED_SAMPLING, "cfg_until")  # the last has no default
log = logging.getLogger("sdvar.sampling")
SHORT = {f"--{name}": f"--sampling.{name}" for name in SAMPLING}


def add_sampling(parser: ArgumentParser) -> None:
    """Adds guidance, filters and temperature; their defaults depend on the models."""
    add = parser.add_argument
    add(
        "--sampling.cfg",
        type=float | list[float] | str | None,
        help="guidance, 0 is off (1.5): a number, or one per scale, 1.5,1.5,1.5,1.5,0,0; short: --cfg, and so for the "
        "next four",
    )
    add("--sampling.top_k", type=int | None, help="keep the k best tokens, 0 is off (bundled 60, own 900)")
    add("--sampling.top_p", type=float | None, help="keep the likeliest tokens up to this mass, 0 is off (own 0.96)")
    add(
        "--sampling.temperature",
        type=float | list[float] | str | None,
        help="divides the logits before the filters (1.0): a number, or one per scale, 1.1,1.1,1.1,1.0,1.0,1.0",
    )
    add("--sampling.cfg_until", type=int | None, help="no guidance from this scale on, 1 to the number of scales")


def say_if_all_are_kept(sampling: Sampling, target: NextScaleModel, where: str = "") -> None:
    """Logs a top_k that keeps everything, in the first process: most likely it was meant for a larger codebook."""
    if sampling.top_k > target.codebook_size and os.environ.get("LOCAL_RANK", "0") == "0":
        tokens = target.codebook_size
        log.warning("%ssampling.top_k: %d keeps all %d tokens of the codebook", where, sampling.top_k, tokens)


def in_long_form(word: str) -> str:
    """A word of a command line; --cfg is --sampling.cfg."""
    name, equals, value = word.partition("=")
    return SHORT.get(name, name) + equals + value


def plain_number(text: str) -> float:
    """A number as people write it; ValueError for Python's 1_000 too."""
    if "_" in text:
        raise ValueError(f"expected a number, got {text!r}")
    return float(text)


def complete_sampling(given: Any, defaults: dict[str, float]) -> dict[str, Any]:
    """The sampling with the defaults where nothing is given, and what is in text as numbers.

    Raises:
        ValueError: with one line that says what is wrong.
    """
    if not isinstance(given, Namespace):
        raise ValueError(f"sampling: expected a mapping of {', '.join(SAMPLING)}, got {given!r}")
    sampling = defaults | {name: value for name, value in vars(given).items() if value is not None}
    for name, example in (("cfg", "1.5,1.5,0"), ("temperature", "1.1,1.1,1.0")):
        value = sampling[name]
        if isinstance(value, str):
            try:
                sampling[name] = [plain_number(part) for part in value.split(",")]
            except ValueError:
                expected = f"expected a number, or one per scale such as {example}"
                raise ValueError(f"sampling.{name}: {expected}; got {value!r}") from None
    return sampling
