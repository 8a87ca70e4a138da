"""Addressed noise: every number is a function of (seed, stream, scale, position, token), not of a running state.

A counter-based generator (Philox-4x32-10, Salmon et al. 2011) is keyed by the image's seed and counts addresses, so the
batch, the rank, the strategy and the order of work cannot change what an image draws. Integer operations only, the same
on CPU and CUDA.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STREAMS = {"pick": 0, "accept": 1, "residual": 2, "smooth": 3, "audit": 4, "label": 5}

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

NUMBERS_TOGETHER = 1 << 18  # on a CPU


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox-4x32-10: four counter words and two key words (int64 holding 32 bits, broadcastable) -> four words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # the product wraps in int64; its bit pattern is still that of the 64-bit unsigned product
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _WORD) ^ c1 ^ k0,
            product1 & _WORD,
            ((product0 >> 32) & _WORD) ^ c3 ^ k1,
            product0 & _WORD,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return c0, c1, c2, c3


def uniform(
    seeds: Tensor, stream: str, scale: int | Tensor, positions: int | Tensor, tokens: int, dtype: torch.dtype
) -> Tensor:
    """Uniform numbers in the open interval (0, 1).

    Args:
        seeds: int64 (B,), any 64-bit value.
        stream: a name in STREAMS.
        scale: scale number, from 0; for several scales at once int64 (P,), one per position.
        positions: n_k, positions of the scale; for several scales int64 (P,), each position's number in its scale.
        tokens: numbers per position: V for a choice of token, 1 for a decision.
        dtype: float32 or float64; both round the same 32-bit number.

    Returns:
        (B, positions, tokens).
    """
    return _in_parts(_uniform, seeds, stream, scale, positions, tokens, dtype)


def gumbel(
    seeds: Tensor, stream: str, scale: int | Tensor, positions: int | Tensor, tokens: int, dtype: torch.dtype
) -> Tensor:
    """Standard Gumbel numbers: argmax(log p + G) is a draw from p. Arguments and shape as for ``uniform``.

    Large G decide, and they come from u near 0, where float32 resolves u best.
    """
    return _in_parts(_gumbel, seeds, stream, scale, positions, tokens, dtype)


def _in_parts(
    draw: Callable[..., Tensor],
    seeds: Tensor,
    stream: str,
    scale: int | Tensor,
    positions: int | Tensor,
    tokens: int,
    dtype: torch.dtype,
) -> Tensor:
    """What ``draw`` makes of all positions; on a CPU of so few at a time that the work stays in its cache."""
    place = positions if isinstance(positions, Tensor) else torch.arange(positions, device=seeds.device)
    scales = scale if isinstance(scale, Tensor) else torch.full_like(place, scale)  # made there: no copy to wait for
    together = max(1, NUMBERS_TOGETHER // max(1, len(seeds) * tokens)) if seeds.device.type == "cpu" else len(place)
    if together >= len(place):
        return draw(seeds, STREAMS[stream], scales, place, tokens, dtype)
    parts = zip(scales.split(together), place.split(together))
    return torch.cat([draw(seeds, STREAMS[stream], *part, tokens, dtype) for part in parts], dim=1)


def _uniform(seeds: Tensor, stream: int, scales: Tensor, place: Tensor, tokens: int, dtype: torch.dtype) -> Tensor:
    lanes = -(-tokens // 4)  # one call of the generator serves four tokens
    words = philox(
        (torch.arange(lanes, device=seeds.device), place[:, None], scales[:, None], place.new_full((), stream)),
        ((seeds & _WORD)[:, None, None], ((seeds >> 32) & _WORD)[:, None, None]),
    )
    bits = torch.stack(words, dim=-1).flatten(-2)[..., :tokens]
    # float32 keeps its full relative precision near 0 and would round the largest numbers up to 1
    return ((bits.to(dtype) + 0.5) * 2.0**-32).clamp_(max=1 - 2.0**-24)


def _gumbel(seeds: Tensor, stream: int, scales: Tensor, place: Tensor, tokens: int, dtype: torch.dtype) -> Tensor:
    return _uniform(seeds, stream, scales, place, tokens, dtype).neg_().log1p_().neg_().log_().neg_()
