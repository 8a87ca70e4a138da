"""Guidance inside: what a model was distilled to give by itself, in one pass and without a null branch."""

from __future__ import annotations

import json
from typing import Any

from sdvar.sampling import Sampling


def guidance_of(sampling: Sampling) -> Sampling:
    """The guidance of a sampling, without its filters and its temperature."""
    return Sampling(cfg=sampling.cfg, cfg_until=sampling.cfg_until)


def plain(guidance: Sampling) -> dict[str, Any]:
    """It in plain values; `guidance_from` takes them."""
    return {"cfg": guidance.cfg, "cfg_until": guidance.cfg_until}


def guidance_from(values: Any) -> Sampling:
    """A guidance from plain values, or from their JSON text.

    Raises:
        ValueError: they are not those of a guidance.
    """
    try:
        if isinstance(values, str):
            values = json.loads(values)
        return Sampling(cfg=values["cfg"], cfg_until=values["cfg_until"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f"guidance inside: expected cfg and cfg_until, got {values!r:.100}") from None


def words(sampling: Sampling) -> str:
    """Its guidance as tables and messages show it: cfg 1.5 until scale 4."""
    given = sampling.cfg if isinstance(sampling.cfg, tuple) else (sampling.cfg,)
    until = "" if sampling.cfg_until is None else f" until scale {sampling.cfg_until}"
    return f"cfg {','.join(f'{number:g}' for number in given)}{until}"


def same_guidance(one: Sampling, other: Sampling, scales: int) -> bool:
    """Whether both guide every scale of a pyramid of ``scales`` scales alike."""
    return all(one.guidance(k, scales) == other.guidance(k, scales) for k in range(scales))


def other_guidance(inside: Sampling, sampling: Sampling, scales: int, lossless: bool) -> str | None:
    """What it means, in words, that a draft has another guidance inside than a decode asks for; None if it has not.

    Args:
        inside: the draft's.
        sampling: of the decode.
        scales: K.
        lossless: whether the strategy is.
    """
    if same_guidance(inside, sampling, scales):
        return None
    effect = "it agrees less, and the images stay the target's" if lossless else "its scales have its own guidance"
    return f"the draft has guidance inside for {words(inside)}, and decodes for {words(sampling)}: {effect}"
