"""One Triton kernel from a model's logits to tokens: guidance, temperature, top-k, top-p, noise and the pick.

It reads the logits once and writes one token per position. The noise is made where it is used and is never in memory.
What `sdvar.sampling` and `sdvar.noise` compute is computed here by the same operations, rounded in the same way: the
guided logits, the tokens that the filters keep and the uniform numbers are equal to the bit. Only the two logarithms of
a Gumbel number are those of the device's library.

Importing this module needs Triton; `sdvar.kernels.selection` says where it runs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from sdvar.noise import STREAMS
from sdvar.sampling import EXP2, LOG2_E, Sampling

LARGEST_VOCABULARY = 8192  # one program holds the logits of a position in its registers
NUMBERS_A_THREAD = 16

_STREAM = tl.constexpr(STREAMS["pick"])
_LOG2_E = tl.constexpr(LOG2_E)
_EXP2_5, _EXP2_4, _EXP2_3, _EXP2_2, _EXP2_1, _EXP2_0 = (tl.constexpr(value) for value in EXP2)
_MASS_UNITS = tl.constexpr(2.0**40)
_INFINITY = tl.constexpr(float("inf"))
_HIGHEST_BIT = tl.constexpr(1 << 31)
_UNIT = tl.constexpr(2.0**-32)
_BELOW_ONE = tl.constexpr(1 - 2.0**-24)

if knobs.runtime.interpret:  # has no device library

    @triton.jit
    def _gumbel(u):
        rest = 1.0 - u.to(tl.float64)
        log1p = tl.where(rest == 1.0, -u, tl.log(rest) * (u / tl.where(rest == 1.0, 1.0, 1.0 - rest)))  # Kahan's
        return -tl.log(-log1p.to(tl.float32))

else:
    from triton.language.extra import libdevice

    @triton.jit
    def _gumbel(u):
        return -libdevice.log(-libdevice.log1p(-u))


@triton.jit
def _uniform(seed, scale, place, BLOCK: tl.constexpr):
    """`sdvar.noise.uniform` of one position: float32 (BLOCK,). One call of the generator serves four tokens."""
    lanes = tl.arange(0, BLOCK // 4)
    w0, w1, w2, w3 = tl.philox(seed, lanes, place, scale, tl.full([], _STREAM, tl.int32))
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3)).reshape([BLOCK])
    return tl.minimum((words.to(tl.float32) + 0.5) * _UNIT, _BELOW_ONE)


@triton.jit
def _key(x):
    """Of float32 numbers, uint32 numbers in the same order; both zeros have the same."""
    bits = x.to(tl.uint32, bitcast=True)
    key = tl.where(bits >= _HIGHEST_BIT, ~bits, bits | _HIGHEST_BIT)
    return tl.where(x == 0.0, _HIGHEST_BIT, key).to(tl.uint32)


@triton.jit
def _mass(x):
    """`sdvar.sampling.token_mass`."""
    power = tl.maximum(x * _LOG2_E, -62.0)
    whole = tl.floor(power)
    fraction = power - whole
    mantissa = _EXP2_5 * fraction + _EXP2_4
    mantissa = mantissa * fraction + _EXP2_3
    mantissa = mantissa * fraction + _EXP2_2
    mantissa = mantissa * fraction + _EXP2_1
    mantissa = mantissa * fraction + _EXP2_0
    return (mantissa * _MASS_UNITS).to(tl.int64) >> (-whole).to(tl.int64)


@triton.jit
def _kth_largest(key, k):
    """The largest number that at least ``k`` of the keys reach, bit by bit."""
    least = tl.full([], 0, tl.uint32)
    for bit in range(32):
        trial = least | (tl.full([], _HIGHEST_BIT, tl.uint32) >> bit)
        reached = tl.sum((key >= trial).to(tl.int32))
        least = tl.where(reached >= k, trial, least)
    return least


@triton.jit
def _least_of_mass(key, mass, drop):
    """The largest number below which the keys have at most the share ``drop`` of all mass, bit by bit."""
    limit = (tl.sum(mass).to(tl.float64) * drop).to(tl.int64)
    least = tl.full([], 0, tl.uint32)
    for bit in range(32):
        trial = least | (tl.full([], _HIGHEST_BIT, tl.uint32) >> bit)
        below = tl.sum(tl.where(key < trial, mass, 0))
        least = tl.where(below <= limit, trial, least)
    return tl.minimum(least, tl.max(key))


@triton.jit
def _kept(x, top_k, drop, BY_K: tl.constexpr, BY_P: tl.constexpr):
    """Which numbers `sdvar.sampling.Sampling.filtered` keeps."""
    key = _key(x)
    least = tl.full([], 0, tl.uint32)
    if BY_K:
        least = _kth_largest(key, top_k)
    if BY_P:
        mass = tl.where(key >= least, _mass(x - tl.max(x)), 0)
        least = _least_of_mass(key, mass, drop)
    return key >= least


@triton.jit(do_not_specialize=["rows", "positions", "offset", "top_k", "drop", "judged", "judged_scales"])
def pick_kernel(
    logits, guidance, temperature, scales, places, seeds, drafted, tokens, finite, agreed,
    rows, positions, offset, top_k, drop, judged, judged_scales,
    V: tl.constexpr, BLOCK: tl.constexpr,
    GUIDED: tl.constexpr, TEMPERED: tl.constexpr, BY_K: tl.constexpr, BY_P: tl.constexpr, JUDGED: tl.constexpr,
):  # fmt: skip
    """One position of one image per program; the arguments are those of `pick` and its result."""
    position, row = tl.program_id(0), tl.program_id(1)
    where = row * positions + position
    address = offset + position
    column = tl.arange(0, BLOCK)
    inside = column < V

    x = tl.load(logits + where.to(tl.int64) * V + column, mask=inside, other=0.0)
    if GUIDED:
        t = tl.load(guidance + address)
        null = (rows * positions + where).to(tl.int64)
        x = (1 + t) * x - t * tl.load(logits + null * V + column, mask=inside, other=0.0)
    if TEMPERED:
        x = tl.div_rn(x, tl.load(temperature + address))
    tl.store(finite + where, tl.min((tl.abs(x) < _INFINITY).to(tl.int32)) == 1)

    x = tl.where(inside, x, -_INFINITY)
    kept = _kept(x, top_k, drop, BY_K, BY_P)
    scale = tl.load(scales + address)
    u = _uniform(tl.load(seeds + row), scale, tl.load(places + address), BLOCK)
    score = tl.where(kept, x + _gumbel(u), -_INFINITY)
    token = tl.minimum(tl.argmax(score, axis=0), V - 1).to(tl.int64)  # among NaN it could be any number
    tl.store(tokens + where, token)

    if JUDGED:
        has_draft = position < judged
        agrees = (tl.load(drafted + row * judged + position, mask=has_draft) == token).to(tl.int32)
        tl.atomic_add(agreed + row * judged_scales + scale - tl.load(scales + offset), agrees, mask=has_draft)


class Positions(NamedTuple):
    """What the kernel needs of the L positions of a pyramid.

    Attributes:
        scales, places: int32 (L,), the scale of each position and its number in the scale.
        guidance, temperature: float32 (L,); None is no guidance, no temperature.
    """

    scales: Tensor
    places: Tensor
    guidance: Tensor | None
    temperature: Tensor | None


class Picked(NamedTuple):
    """What the kernel writes.

    Attributes:
        tokens: int64 (n, T).
        finite: bool (n, T), whether all guided logits of the position are finite. If not, its token is any.
        agreed: int32 (n, drafted scales), how many tokens of each drafted scale are the drafted ones; None without any.
    """

    tokens: Tensor
    finite: Tensor
    agreed: Tensor | None


def pick(
    logits: Tensor,
    positions: Positions,
    offset: int,
    seeds: Tensor,
    sampling: Sampling,
    drafted: Tensor | None = None,
    drafted_scales: int = 0,
) -> Picked:
    """Pick the tokens of T positions of n images.

    Args:
        logits: float32 (n, T, V), or (2n, T, V) with the null branch of guidance after the class branch. V is at most
            `LARGEST_VOCABULARY`.
        positions: of the whole pyramid.
        offset: number of the first of the T positions in it.
        seeds: int64 (n,).
        sampling: the filters.
        drafted: int64 (n, D) tokens of the first D of the positions; they are compared with those that are picked.
        drafted_scales: how many whole scales these are.
    """
    (n, count), vocabulary = (len(seeds), logits.shape[1]), logits.shape[2]
    logits, drafted = logits.contiguous(), None if drafted is None else drafted.contiguous()
    tokens = torch.empty(n, count, dtype=torch.int64, device=logits.device)
    finite = torch.empty(n, count, dtype=torch.bool, device=logits.device)
    agreed = None if drafted is None else torch.zeros(n, drafted_scales, dtype=torch.int32, device=logits.device)
    block = max(4, triton.next_power_of_2(vocabulary))
    with torch.cuda.device_of(logits):
        pick_kernel[(count, n)](
            logits, positions.guidance, positions.temperature, positions.scales, positions.places, seeds, drafted,
            tokens, finite, agreed, n, count, offset, sampling.top_k, sampling.drop,
            0 if drafted is None else drafted.shape[1], drafted_scales,
            V=vocabulary, BLOCK=block, GUIDED=positions.guidance is not None,
            TEMPERED=positions.temperature is not None, BY_K=0 < sampling.top_k < vocabulary,
            BY_P=0 < sampling.top_p < 1, JUDGED=drafted is not None, **launch_options(block),
        )  # fmt: skip
    return Picked(tokens, finite, agreed)


def launch_options(block: int) -> dict[str, int | bool]:
    """How a kernel over ``block`` numbers is compiled: as torch's, without fusing a product and a sum."""
    warps = max(1, block // (32 * NUMBERS_A_THREAD))
    return {"num_warps": warps, "enable_fp_fusion": False, "enable_reflect_ftz": False}
