"""Triton kernels for what a VAR's block does between its products, token by token.

Gain and residual, layer norm with AdaLN and the rounding are one kernel; the biases, the norms of queries and keys and
the way into the cache are another. They compute in float32 and round once. Each token is made by itself, in an
order that is compiled in, so that its bits do not depend on what else is in the call.

Importing this module needs Triton; `sdvar.kernels.selection` says where it runs.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdvar.kernels.pick import launch_options
from sdvar.models.kv_cache import CacheWindow, LayerCache
from sdvar.models.layers.invariant import BLOCKS

LARGEST_WIDTH = 8192  # one program holds a token in its registers
TOGETHER = 1  # tokens of a program; a test takes more at a time

_EPS = tl.constexpr(1e-6)  # of the layer norm
_LEAST_NORM = tl.constexpr(1e-12)
_MAX_LOG_SCALE = tl.constexpr(4.605170185988092)  # log(100)


@triton.jit(do_not_specialize=["rows", "tokens"])
def row_kernel(
    x, branch, gain, scale, shift, h, rows, tokens, gain_stride, norm_stride,
    C: tl.constexpr, BLOCK: tl.constexpr, TOGETHER: tl.constexpr, ADDED: tl.constexpr, NORMED: tl.constexpr,
):  # fmt: skip
    """Some tokens per program; the arguments are those of `added`. After the last token h is filled with zeros."""
    row = tl.program_id(0) * TOGETHER + tl.arange(0, TOGETHER)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (column < C)
    where = row.to(tl.int64) * C + column
    image = (row // tokens).to(tl.int64)

    number = tl.load(x + where, mask=inside, other=0.0)
    if ADDED:
        factor = tl.load(gain + image * gain_stride + column, mask=inside, other=0.0).to(tl.float32)
        number += tl.load(branch + where, mask=inside, other=0.0).to(tl.float32) * factor
        tl.store(x + where, number, mask=inside)
    if NORMED:
        centred = tl.where(inside, number - (tl.sum(number, axis=1) / C)[:, None], 0.0)
        deviation = tl.sqrt_rn(tl.sum(centred * centred, axis=1) / C + _EPS)[:, None]
        place = image * norm_stride + column
        factor = 1 + tl.load(scale + place, mask=inside, other=0.0).to(tl.float32)
        normed = tl.div_rn(centred, deviation) * factor
        normed += tl.load(shift + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(h + where, normed, mask=column < C)


@triton.jit
def _unit(x):
    """Vectors along the last axis, of length 1."""
    length = tl.sqrt_rn(tl.sum(x * x, axis=2))
    return tl.div_rn(x, tl.maximum(length, _LEAST_NORM)[:, :, None])


@triton.jit(do_not_specialize=["rows", "tokens", "start"])
def heads_kernel(
    qkv, q_bias, k_bias, v_bias, log_scales, cache_rows, q, keys, values,
    rows, tokens, start, row_stride, head_stride,
    H: tl.constexpr, D: tl.constexpr, HEADS: tl.constexpr, LANES: tl.constexpr, TOGETHER: tl.constexpr,
    NORMED: tl.constexpr, BY_ROW: tl.constexpr,
):  # fmt: skip
    """Some tokens per program with all their heads; the arguments are those of `heads`."""
    row = tl.program_id(0) * TOGETHER + tl.arange(0, TOGETHER)[:, None, None]
    head, lane = tl.arange(0, HEADS)[None, :, None], tl.arange(0, LANES)[None, None, :]
    of_channel = (head < H) & (lane < D)
    inside = (row < rows) & of_channel
    channel = head * D + lane
    source = qkv + row.to(tl.int64) * (3 * H * D) + channel

    query = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    query += tl.load(q_bias + channel, mask=of_channel, other=0.0).to(tl.float32)
    key = tl.load(source + H * D, mask=inside, other=0.0).to(tl.float32)
    key += tl.load(k_bias + channel, mask=of_channel, other=0.0).to(tl.float32)
    value = tl.load(source + 2 * H * D, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(v_bias + channel, mask=of_channel, other=0.0).to(tl.float32)
    if NORMED:
        log_scale = tl.load(log_scales + head, mask=head < H, other=0.0).to(tl.float32)
        query = _unit(query) * tl.exp(tl.minimum(log_scale, _MAX_LOG_SCALE))
        key = _unit(key)

    tl.store(q + row.to(tl.int64) * (H * D) + channel, query, mask=inside)
    kept = (row // tokens).to(tl.int64)
    if BY_ROW:
        kept = tl.load(cache_rows + kept, mask=row < rows, other=0)
    target = kept * row_stride + head * head_stride + (start + row % tokens) * D + lane
    tl.store(keys + target, key, mask=inside)
    tl.store(values + target, value, mask=inside)


def modulated(x: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
    """Layer norm of each token, times 1 + scale, plus shift.

    Args:
        x: float32 (n, T, C), C at most `LARGEST_WIDTH`.
        scale, shift: (n, 1, C).
        dtype: of the result.

    Returns:
        (rows, C): of the n * T tokens, then zeros up to whole blocks of a product's rows.
    """
    h = _filled(x, dtype)
    _launch(x, None, None, scale, shift, h, len(h))
    return h


def added(x: Tensor, branch: Tensor, gain: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
    """Add a branch times its gain to x, in place, and return `modulated` of that.

    Args:
        x: float32 (n, T, C).
        branch: (n * T or more, C).
        gain: (n, 1, C).
        scale, shift, dtype: as of `modulated`.
    """
    h = _filled(x, dtype)
    _launch(x, branch, gain, scale, shift, h, len(h))
    return h


def add(x: Tensor, branch: Tensor, gain: Tensor) -> None:
    """As `added`, without the norm."""
    _launch(x, branch, gain, None, None, None, x.shape[0] * x.shape[1])


def heads(
    qkv: Tensor,
    biases: tuple[Tensor, Tensor, Tensor],
    log_scales: Tensor | None,
    n: int,
    cache: LayerCache,
    window: CacheWindow,
) -> Tensor:
    """Split a product into heads, add its biases, write keys and values to the cache and return the queries.

    Args:
        qkv: (n * T or more, 3 * heads * d), queries, keys and values side by side.
        biases: of these three, (heads * d,) each.
        log_scales: (1, heads, 1, 1) of cosine attention: queries and keys get length 1, and queries are multiplied by
            exp of these, at most 100. None without.
        n: rows of the pass, of T tokens each.
        cache: of the layer.
        window: where the keys belong; T is its length.

    Returns:
        (n, heads, T, d).
    """
    keys, values = cache
    (_, count, _, width), tokens = keys.shape, window.end - window.start
    assert keys.stride() == values.stride() and keys.stride()[2:] == (width, 1)
    q = qkv.new_empty(n, tokens, count, width)
    heads_block, lanes = triton.next_power_of_2(count), triton.next_power_of_2(width)
    with torch.cuda.device_of(qkv):
        heads_kernel[(triton.cdiv(n * tokens, TOGETHER),)](
            qkv, *biases, log_scales, window.rows, q, keys, values, n * tokens, tokens, window.start, keys.stride(0),
            keys.stride(1), H=count, D=width, HEADS=heads_block, LANES=lanes, TOGETHER=TOGETHER,
            NORMED=log_scales is not None, BY_ROW=window.rows is not None, **launch_options(heads_block * lanes),
        )  # fmt: skip
    return q.transpose(1, 2)


def _filled(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for the tokens of x and zeros after them."""
    n, tokens, width = x.shape
    most = max(BLOCKS[x.device.type])
    return torch.empty(-(-n * tokens // most) * most, width, dtype=dtype, device=x.device)


def _launch(
    x: Tensor,
    branch: Tensor | None,
    gain: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    h: Tensor | None,
    rows: int,
) -> None:
    n, tokens, width = x.shape
    assert x.is_contiguous() and (branch is None or branch.is_contiguous())
    assert scale is None or shift is None or scale.stride(0) == shift.stride(0)
    block = triton.next_power_of_2(width)
    with torch.cuda.device_of(x):
        row_kernel[(triton.cdiv(rows, TOGETHER),)](
            x, branch, gain, scale, shift, h, n * tokens, tokens, 0 if gain is None else gain.stride(0),
            0 if scale is None else scale.stride(0), C=width, BLOCK=block, TOGETHER=TOGETHER,
            ADDED=branch is not None, NORMED=h is not None, **launch_options(block),
        )  # fmt: skip
