"""A Triton kernel for the end of a scale: phi's residual and the sum with f-hat, one launch where torch takes two.

Its numbers are torch's to the bit. Importing this module needs Triton; `sdvar.kernels.selection` says where it runs.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

POSITIONS = 64  # of a program, with all their channels


@triton.jit
def f_hat_kernel(
    f_hat, h, convolved, result, channels, positions,
    h_image, h_channel, h_position, c_image, c_channel, c_position,
    HALF: tl.constexpr, CHANNELS: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """Some positions of one image per program; the arguments are those of `added`."""
    image = tl.program_id(1).to(tl.int64)
    position = (tl.program_id(0) * POSITIONS + tl.arange(0, POSITIONS))[None, :]
    channel = tl.arange(0, CHANNELS)[:, None]
    inside = (channel < channels) & (position < positions)
    both = tl.load(h + image * h_image + channel * h_channel + position * h_position, mask=inside)
    both += tl.load(convolved + image * c_image + channel * c_channel + position * c_position, mask=inside)
    where = (image * channels + channel) * positions + position
    tl.store(result + where, tl.load(f_hat + where, mask=inside) + HALF * both, mask=inside)


def added(f_hat: Tensor, h: Tensor, convolved: Tensor) -> Tensor:
    """f_hat + (h + convolved) / 2, all float32 (B, C_vae, S, S)."""
    f_hat, (h, convolved) = f_hat.contiguous(), (part.flatten(2) for part in (h, convolved))
    batch, channels, positions = h.shape
    result = torch.empty_like(f_hat)
    with torch.cuda.device_of(f_hat):
        f_hat_kernel[(triton.cdiv(positions, POSITIONS), batch)](
            f_hat, h, convolved, result, channels, positions, *h.stride(), *convolved.stride(), HALF=0.5,
            CHANNELS=triton.next_power_of_2(channels), POSITIONS=POSITIONS, num_warps=4,
            enable_fp_fusion=False,
        )  # fmt: skip
    return result
