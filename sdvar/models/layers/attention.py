"""Attention by one call for each scale of a pass, by a kernel that can be chosen and is logged."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sdvar.pyramid import ScalePyramid

log = logging.getLogger("sdvar.attention")

BACKENDS = {
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
}
UNSPLIT = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]  # each query's sum over its keys is one loop
KERNELS = ("auto", *BACKENDS, "products")
# Of a call of torch's fused kernel on a CPU. It takes 32 at a time; with fewer, the scratch memory of its second thread
# starts at an odd address, on which the bits of MKL's products depend.
FEWEST_QUERIES = 32
SCORES_TOGETHER = 1 << 19  # of "products" at a time: they stay in a core's cache


class Visibility(NamedTuple):
    """Which keys the queries of a pass may see.

    Attributes:
        blocks: first query, end of the queries and end of the keys of each scale in the pass.
        mask: makes the same as bool (T_q, T_k), True where visible; decoding does without.
    """

    blocks: tuple[tuple[int, int, int], ...]
    mask: Callable[[], Tensor | None]


def block_causal(pyramid: ScalePyramid, first: int, last: int, visible_from: int, device: torch.device) -> Visibility:
    """Visibility in a pass over the scales ``first`` <= k < ``last`` that sees the scales from ``visible_from`` on.

    A span of one scale sees every key there is: it has no mask.
    """
    offsets = pyramid.offsets
    start, seen = offsets[first], offsets[visible_from]
    blocks = tuple((offsets[k] - start, offsets[k + 1] - start, offsets[k + 1] - seen) for k in range(first, last))

    def mask() -> Tensor | None:
        return pyramid.block_causal_mask(first, last, visible_from, device) if last - first > 1 else None

    return Visibility(blocks, mask)


def attend(q: Tensor, k: Tensor, v: Tensor, visibility: Visibility, scale: float, kernel: str = "auto") -> Tensor:
    """Softmax attention.

    Each scale of the pass is a call of its own with exactly the keys that it sees, so that its bits do not depend on
    the scales beside it. Training and torch.compile take one call with a mask.

    Args:
        q: (n, heads, T_q, d).
        k, v: (n, heads, T_k, d).
        visibility: which keys each query sees.
        scale: of the products.
        kernel: one of KERNELS. "auto" is "products" on a CPU in bfloat16, else left to torch; on a GPU without flash,
            which splits the sum over the keys by the number of images.

    Returns:
        (n, heads, T_q, d).
    """
    compiling = torch.compiler.is_compiling()
    if kernel == "auto" and q.device.type == "cpu" and q.dtype == torch.bfloat16 and not compiling:
        kernel = "products"  # torch's fused kernel gains nothing from bfloat16 there
    if not compiling and log.isEnabledFor(logging.INFO):
        _log_kernel(kernel, q, k, v, scale)
    if compiling or (torch.is_grad_enabled() and q.requires_grad):
        mask = visibility.mask()
        return _products(q, k, v, mask, scale) if kernel == "products" else _fused(q, k, v, mask, scale, kernel)
    parts = [_call(q[:, :, a:b], k[:, :, :end], v[:, :, :end], scale, kernel) for a, b, end in visibility.blocks]
    # side by side in memory are the heads of a position: so most kernels give them, and so the next layer reads them
    return parts[0] if len(parts) == 1 else torch.cat([part.transpose(1, 2) for part in parts], dim=1).transpose(1, 2)


def check_kernel(kernel: str, device: torch.device, dtype: torch.dtype, head_width: int) -> None:
    """Raise ValueError unless this machine can run the kernel, by running it once."""
    if kernel not in KERNELS:
        raise ValueError(f"attention: expected one of {', '.join(KERNELS)}, got {kernel!r}")
    if kernel != "auto" and not _runs(kernel, device, dtype, head_width):
        able = ["auto", *(name for name in KERNELS[1:] if name != kernel and _runs(name, device, dtype, head_width))]
        raise ValueError(
            f"attention: {kernel} does not run on {device.type} with {dtype} and heads of width {head_width}; expected "
            f"one of {', '.join(able)}"
        )


def _runs(kernel: str, device: torch.device, dtype: torch.dtype, head_width: int) -> bool:
    if kernel == "products" and device.type == "cuda":
        return False  # launches for each row and head
    visibility = block_causal(ScalePyramid((1, 2)), 0, 2, 0, device)
    q = torch.zeros(1, 1, 5, head_width, device=device, dtype=dtype)
    try:
        attend(q, q, q, visibility, 1.0, kernel)
    except Exception as error:  # torch says it in RuntimeErrors, its compiler in others
        log.debug("%s: %s", kernel, error)
        return False
    return True


def _call(q: Tensor, k: Tensor, v: Tensor, scale: float, kernel: str) -> Tensor:
    """Attention of the queries of one scale, which see all keys."""
    if kernel == "products":
        return _products(q, k, v, None, scale)
    if kernel == "math" and q.device.type == "cpu":  # its products are shared out among threads by their number
        return torch.cat([_fused(*one, None, scale, kernel) for one in zip(q.split(1), k.split(1), v.split(1))])
    missing = FEWEST_QUERIES - q.shape[2] if q.device.type == "cpu" else 0
    if missing > 0:
        q = F.pad(q, (0, 0, 0, missing))
    images = q.shape[0]
    if q.device.type == "cpu" and images * q.shape[1] == 1:  # alone it would be a task of all threads, which split sums
        q, k, v = (x.expand(2, -1, -1, -1) for x in (q, k, v))
    return _fused(q, k, v, None, scale, kernel)[:images, :, : q.shape[2] - max(missing, 0)]


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, kernel: str) -> Tensor:
    backends = UNSPLIT if kernel == "auto" and q.is_cuda else BACKENDS.get(kernel)
    with sdpa_kernel(backends) if backends else nullcontext():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def _products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Two products with a softmax between them, some heads of one row at a time."""
    q = q if scale == 1 else q * scale
    if torch.is_grad_enabled() and q.requires_grad:
        return _product_of_heads(q, k, v, mask)
    n, heads, queries, _ = q.shape
    together = max(1, min(heads, SCORES_TOGETHER // (queries * k.shape[2])))
    out = torch.empty_like(q)
    for row in range(n):
        for first in range(0, heads, together):
            part = slice(first, first + together)
            out[row, part] = _product_of_heads(q[row, part], k[row, part], v[row, part], mask)
    return out


def _product_of_heads(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    scores = (q @ k.transpose(-2, -1)).float()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(-1).to(v.dtype) @ v


def _log_kernel(kernel: str, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
    if kernel == "auto":
        kernel = SDPBackend(torch._fused_sdp_choice(q, k, v, scale=scale)).name.lower()
    _log_once(kernel, q.device.type, q.dtype)


@functools.cache
def _log_once(kernel: str, device: str, dtype: torch.dtype) -> None:
    log.info("attention by %s on %s, %s", kernel, device, dtype)
