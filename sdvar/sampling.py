"""From logits to tokens: guidance, temperature, top-k, top-p, the pick."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdvar.arguments import check_bool, check_int, check_number

# 2**x for 0 <= x < 1 by a polynomial, highest power first; its relative error is below 2e-7
EXP2 = (0.0018671308644115925, 0.009017028845846653, 0.05579991266131401, 0.24016444385051727, 0.6931512951850891, 1.0)
LOG2_E = 1.4426950216293335


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, for the draft and the target alike.

    Args:
        cfg: guidance strength, a number, or one per scale: at scale k the logits are (1 + t) class - t null with
            t = cfg_k k / (K - 1), so 0 is unguided, and K equal numbers are that number.
        top_k: keep the k best tokens and all ties with the k-th; 0 is off.
        top_p: keep the most likely tokens that together have this mass, ties whole; 0 is off.
        temperature: divides the guided logits before the filters; a number, or one per scale.
        more_smooth: build the image from mixtures of codebook vectors (Gumbel softmax) instead of the picked ones, as
            VAR does for pictures that look smoother. The tokens then do not describe the image; not for measuring.
        cfg_until: from this scale on, 1 .. K, there is no guidance, whatever ``cfg`` says; None for no such scale.

    After the last guided scale the null branch is not computed: passes over such scales alone take half the work.

    Raises:
        TypeError, ValueError: naming the argument, the value received and what is allowed.
    """

    cfg: float | Sequence[float] = 1.5
    top_k: int = 0
    top_p: float = 0.0
    temperature: float | Sequence[float] = 1.0
    more_smooth: bool = False
    cfg_until: int | None = None

    def __post_init__(self) -> None:
        self._check_numbers("cfg", math.isfinite, "a finite number (0 is no guidance), or one such number per scale")
        check_int("top_k", self.top_k, least=0, note=" (0 is off)")
        check_number("top_p", self.top_p, lambda x: 0 <= x <= 1, "a number from 0 (off) to 1")
        check_bool("more_smooth", self.more_smooth)
        self._check_numbers("temperature", lambda x: 0 < x < math.inf, "a number > 0, or one such number per scale")
        if self.cfg_until is not None:
            check_int("cfg_until", self.cfg_until, least=1, note=", the first scale without guidance")

    def _check_numbers(self, name: str, allowed: Callable[[float], bool], words: str) -> None:
        """Checks a number, or a sequence of them, which becomes a tuple."""
        given = getattr(self, name)
        if isinstance(given, Sequence) and not isinstance(given, str):
            given = tuple(given)
            object.__setattr__(self, name, given)
        for value in given if isinstance(given, tuple) else (given,):
            check_number(name, value, allowed, words)

    def check_scales(self, scales: int) -> None:
        """Raise ValueError if what is given per scale, or as a scale, does not fit a pyramid of ``scales`` scales."""
        for name in ("cfg", "temperature"):
            given = getattr(self, name)
            if isinstance(given, tuple) and len(given) != scales:
                raise ValueError(f"{name}: expected one number or {scales}, one per scale, got {len(given)}")
        if self.cfg_until is not None and self.cfg_until > scales:
            raise ValueError(f"cfg_until: expected 1 to {scales}, the number of scales, got {self.cfg_until}")

    def guidance(self, scale: int, scales: int) -> float:
        """t_k = cfg_k k / (K - 1); 0 from ``cfg_until`` on, and when there is one scale."""
        if scales == 1 or (self.cfg_until is not None and scale >= self.cfg_until):
            return 0.0
        return _at(self.cfg, scale) * scale / (scales - 1)

    def guided_scales(self, scales: int) -> int:
        """The scales up to the last guided one; from this scale on there is no guidance. 0 if there is none at all."""
        return max((scale + 1 for scale in range(scales) if self.guidance(scale, scales)), default=0)

    def filtered(self, logits: Tensor) -> Tensor:
        """Logits (..., V) with the filtered tokens at -inf; the input is not changed. top-k first, then top-p.

        Both filters are thresholds, so tokens that are equally likely stay or go together.
        """
        by_k, by_p = 0 < self.top_k < logits.shape[-1], 0 < self.top_p < 1
        if not (by_k or by_p):
            return logits
        ascending = logits.topk(self.top_k, dim=-1).values.flip(-1) if by_k else logits.sort(dim=-1).values
        least = ascending[..., :1]
        if by_p:
            kept = (logits >= least).sum(-1, keepdim=True) if by_k else logits.shape[-1]
            least = _least_kept(ascending, kept - ascending.shape[-1], self.drop)
        return logits.masked_fill(logits < least, -math.inf)

    @property
    def drop(self) -> float:
        """The mass that top-p may drop, 1 - top_p, as a float32."""
        return struct.unpack("f", struct.pack("f", 1 - self.top_p))[0]

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution that a token is picked from, (..., V): softmax after the filters."""
        return self.filtered(logits).softmax(-1)

    def temperature_at(self, scale: int) -> float:
        """The number that divides the guided logits of a scale."""
        return _at(self.temperature, scale)


def _at(given: float | Sequence[float], scale: int) -> float:
    """A scale's number, of one number for all or one per scale."""
    return given if isinstance(given, int | float) else given[scale]


def _least_kept(ascending: Tensor, ties: Tensor | int, drop: float) -> Tensor:
    """The smallest logit that top-p keeps: with all smaller ones it has more than the mass that may go.

    Args:
        ascending: (..., k), the k best logits.
        ties: int64 (..., 1), how many more logits are equal to the first of them.
        drop: that mass, as a share of the whole.

    Returns:
        (..., 1); at most the last of ``ascending``.
    """
    masses = token_mass((ascending - ascending[..., -1:]).float())
    below = masses.cumsum(-1) + ties * masses[..., :1]
    dropped = (below <= (below[..., -1:].double() * drop).long()).sum(-1, keepdim=True)
    return ascending.gather(-1, dropped.clamp_max(ascending.shape[-1] - 1))


def token_mass(x: Tensor) -> Tensor:
    """exp(x) for float32 x <= 0, in whole units of 2**-40: int64.

    Sums of integers do not depend on their order, and every operation here rounds in one way: a GPU kernel that adds in
    another order keeps the same tokens to the bit. The relative error of a mass above 2**-20 is below 2e-6.
    """
    power = (x * LOG2_E).clamp_min_(-62)
    whole = power.floor()
    fraction = power.sub_(whole)
    mantissa = torch.full_like(fraction, EXP2[0])
    for coefficient in EXP2[1:]:
        mantissa.mul_(fraction).add_(coefficient)  # not fused: each step rounds
    return (mantissa.mul_(2.0**40).long()) >> whole.neg_().long()


def filtered_probabilities(logits: Tensor, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """The distribution that a token is picked from: softmax after top-k and top-p.

    Args:
        logits: (..., V); not changed.
        top_k: keep the k best and all ties with the k-th; 0 or >= V is off.
        top_p: keep the most likely tokens that together have this mass, ties whole; 0 or 1 is off.

    Returns:
        (..., V), rows summing to 1.

    Raises:
        TypeError, ValueError: naming the argument, the value received and what is allowed.
    """
    sampling = Sampling(top_k=top_k, top_p=top_p)
    if not logits.is_floating_point():
        raise TypeError(f"logits: expected floating point numbers, got {logits.dtype}")
    return sampling.probabilities(logits)


def pick(logits: Tensor, gumbel: Tensor) -> Tensor:
    """argmax(logits + G): a draw from softmax(logits). Both (..., V) -> int64 (...)."""
    return (logits + gumbel).argmax(-1)


def smooth_weights(logits: Tensor, gumbel: Tensor, ratio: float) -> Tensor:
    """Weights of the codebook vectors under ``more_smooth``: a Gumbel softmax that sharpens from scale to scale.

    Args:
        logits: filtered, (..., V).
        gumbel: (..., V), of other noise than the pick's.
        ratio: k / (K - 1).

    Returns:
        (..., V), rows summing to 1.
    """
    temperature = max(0.27 * (1 - 0.95 * ratio), 0.005)  # VAR's schedule, Tian et al. 2024
    return ((logits * (1 + ratio) + gumbel) / temperature).softmax(-1)
