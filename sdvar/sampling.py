"""From logits to tokens: guidance, temperature, top-k, top-p, the pick."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdvar.arguments import check_bool, check_int, check_number


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, for the draft and the target alike.

    Args:
        cfg: guidance strength; at scale k the logits are (1 + t) class - t null with t = cfg k / (K - 1), so 0 is
            unguided.
        top_k: keep the k best tokens and all ties with the k-th; 0 is off.
        top_p: keep the most likely tokens that together have this mass; 0 is off.
        temperature: divides the guided logits before the filters; a number, or one per scale.
        more_smooth: build the image from mixtures of codebook vectors (Gumbel softmax) instead of the picked ones, as
            VAR does for pictures that look smoother. The tokens then do not describe the image; not for measuring.

    Raises:
        TypeError, ValueError: naming the argument, the value received and what is allowed.
    """

    cfg: float = 1.5
    top_k: int = 0
    top_p: float = 0.0
    temperature: float | Sequence[float] = 1.0
    more_smooth: bool = False

    def __post_init__(self) -> None:
        check_number("cfg", self.cfg, math.isfinite, "a finite number, 0 for no guidance")
        check_int("top_k", self.top_k, least=0, note=" (0 is off)")
        check_number("top_p", self.top_p, lambda x: 0 <= x <= 1, "a number from 0 (off) to 1")
        check_bool("more_smooth", self.more_smooth)
        temperatures = self.temperature
        if isinstance(temperatures, Sequence) and not isinstance(temperatures, str):
            object.__setattr__(self, "temperature", tuple(temperatures))
        for value in self.temperature if isinstance(self.temperature, tuple) else (self.temperature,):
            check_number("temperature", value, lambda x: 0 < x < math.inf, "a number > 0, or one such number per scale")

    def check_scales(self, scales: int) -> None:
        """Raise ValueError if a list of temperatures does not have one for each of ``scales`` scales."""
        if isinstance(self.temperature, tuple) and len(self.temperature) != scales:
            raise ValueError(
                f"temperature: expected one number or {scales}, one per scale, got {len(self.temperature)}"
            )

    def guidance(self, scale: int, scales: int) -> float:
        """t_k = cfg k / (K - 1); 0 when there is one scale."""
        return self.cfg * scale / (scales - 1) if scales > 1 else 0.0

    def filtered(self, logits: Tensor) -> Tensor:
        """Logits (..., V) with the filtered tokens at -inf; the input is not changed. top-k first, then top-p."""
        by_k, by_p = 0 < self.top_k < logits.shape[-1], 0 < self.top_p < 1
        if by_k:
            best = logits.topk(self.top_k, dim=-1)
            if by_p:
                return _filtered_by_both(logits, best.values.flip(-1), best.indices.flip(-1), self.top_p)
            return logits.masked_fill(logits < best.values[..., -1:], -math.inf)
        if not by_p:
            return logits
        ascending, order = logits.sort(dim=-1)
        # a token goes when it and all less likely ones together have at most 1 - top_p; the best one always stays
        drop_sorted = ascending.softmax(-1).cumsum(-1) <= 1 - self.top_p
        drop_sorted[..., -1] = False
        drop = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, order, drop_sorted)
        return logits.masked_fill(drop, -math.inf)

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution that a token is picked from, (..., V): softmax after the filters."""
        return self.filtered(logits).softmax(-1)

    def temperature_at(self, scale: int) -> float:
        """The number that divides the guided logits of a scale."""
        return self.temperature if isinstance(self.temperature, int | float) else self.temperature[scale]


def _filtered_by_both(logits: Tensor, ascending: Tensor, order: Tensor, top_p: float) -> Tensor:
    """Top-p among the k best and the ties with the k-th. The ties are not sorted, and the host never reads them.

    Args:
        logits: (..., V).
        ascending, order: (..., k) values and tokens of the k best.
        top_p: see `Sampling`.
    """
    kth, none = ascending[..., :1], torch.zeros_like(logits, dtype=torch.bool)
    weights = (ascending - ascending[..., -1:]).exp()
    before, above = torch.zeros_like(kth), None
    # on a CPU, where asking costs nothing, ties are only looked at if there are any
    if logits.device.type != "cpu" or int((logits >= kth).sum()) > ascending.numel():
        tied = (logits == kth) & ~none.scatter(-1, order, True)  # they come before the k-th, in the order of tokens
        place = tied.cumsum(-1)  # 1, 2, ... for these
        before = place[..., -1:] * weights[..., :1]
        above = tied, place * weights[..., :1]
    total = weights.sum(-1, keepdim=True) + before
    drop = (weights.cumsum(-1) + before) / total <= 1 - top_p
    drop[..., -1] = False
    keep = none.scatter(-1, order, ~drop)
    if above is not None:
        tied, mass = above
        keep |= tied & (mass / total > 1 - top_p)
    return logits.masked_fill(~keep, -math.inf)


def filtered_probabilities(logits: Tensor, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """The distribution that a token is picked from: softmax after top-k and top-p.

    Args:
        logits: (..., V); not changed.
        top_k: keep the k best and all ties with the k-th; 0 or >= V is off.
        top_p: keep the most likely tokens that together have this mass; 0 or 1 is off.

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
