"""Decoding: strategies that share the work between a draft and a target VAR."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sdvar.decoding.result import DecodeResult
from sdvar.decoding.state import DecodeState
from sdvar.decoding.strategies.base import Strategy
from sdvar.decoding.surroundings import set_aside
from sdvar.decoding.timing import Clock, timed
from sdvar.pair import ModelPair
from sdvar.rows import to_device
from sdvar.sampling import Sampling


@torch.no_grad()
def decode_as_given(
    pair: ModelPair,
    labels: Sequence[int] | Tensor,
    seeds: Sequence[int] | Tensor,
    strategy: Strategy,
    sampling: Sampling | None = None,
    images: bool = True,
    clock: Clock | None = None,
) -> DecodeResult:
    """`sdvar.decode` of a strategy whose schedule is given: with gamma "auto" it is not yet."""
    sampling = Sampling() if sampling is None else sampling
    with set_aside(pair.device):
        labels, seeds = check_call(pair, labels, seeds, strategy, sampling)
        return _decode(DecodeState(pair, labels, seeds, sampling, clock), strategy, images)


def _decode(state: DecodeState, strategy: Strategy, images: bool) -> DecodeResult:
    pair = state.pair
    strategy.run(state)
    state.check_finite()
    tokens = [part.contiguous() for part in pair.pyramid.split(state.maps.tokens)]
    stats, pixels = state.stats(), None
    state.close()  # the tokenizer may have the caches' memory
    with timed(state.clock, "tokenizer"):
        if images and state.sampling.more_smooth:  # f-hat holds mixtures, which do not follow from the tokens
            pixels = pair.tokenizer.decode_f_hat(state.maps.f_hat).float().add(1).mul(0.5)
        elif images:  # f-hat is rebuilt in the full batch, whatever the order in which the images progressed
            f_hat = pair.tokenizer.quantize.f_hats(tokens)[-1]
            pixels = pair.tokenizer.decode_f_hat(f_hat).float().add(1).mul(0.5)
    return DecodeResult(pixels, tokens, stats)


def check_call(
    pair: ModelPair,
    labels: Sequence[int] | Tensor,
    seeds: Sequence[int] | Tensor,
    strategy: Strategy,
    sampling: Sampling,
) -> tuple[Tensor, Tensor]:
    """Labels and seeds as `check_batch` returns them, or one clear error for any argument."""
    if not isinstance(strategy, Strategy):
        raise TypeError(f"strategy: expected a strategy such as sdvar.Baseline(), got {strategy!r}")
    if not isinstance(sampling, Sampling):
        raise TypeError(f"sampling: expected a sdvar.Sampling, got {sampling!r}")
    check_fit(strategy, sampling, len(pair.pyramid))
    return check_batch(pair, labels, seeds)


def check_fit(strategy: Strategy, sampling: Sampling, scales: int) -> None:
    """Raise ValueError if strategy, sampling and a pyramid of ``scales`` scales do not go together."""
    strategy.check(scales)
    sampling.check_scales(scales)
    if sampling.more_smooth and not strategy.smooth_allowed:
        raise ValueError(
            "more_smooth: expected False with Speculative, whose drafts and checks are of tokens, got True; "
            "Baseline, Handoff and Parallel take it"
        )


INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_batch(
    pair: ModelPair, labels: Sequence[int] | Tensor, seeds: Sequence[int] | Tensor
) -> tuple[Tensor, Tensor]:
    """Labels, on the CPU, and seeds, on the pair's device, as int64 (B,) tensors, or one clear error."""
    labels, seeds = _int64("labels", labels).cpu(), _int64("seeds", seeds)  # the host reads the labels once
    if not len(labels):
        raise ValueError("labels: expected at least one label, got none")
    if len(labels) != len(seeds):
        raise ValueError(f"seeds: expected one per label, got {len(labels)} labels and {len(seeds)} seeds")
    for label in labels.tolist():
        if not 0 <= label <= pair.num_classes:
            allowed = f"0 to {pair.num_classes - 1}, or {pair.num_classes} for the null class"
            raise ValueError(f"labels: expected {allowed}, got {label}")
    return labels, to_device(seeds, pair.device)


def _int64(name: str, values: Sequence[int] | Tensor) -> Tensor:
    wrong = TypeError(f"{name}: expected a list or 1-D tensor of 64-bit ints, got {values!r}")
    try:
        tensor = torch.as_tensor(values) if len(values) else torch.empty(0, dtype=torch.int64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise wrong from None
    if tensor.ndim != 1 or tensor.dtype not in INTEGERS:  # uint64 does not fit
        raise wrong
    if not isinstance(values, Tensor) and any(isinstance(value, bool) for value in values):  # torch makes it 0 or 1
        raise wrong
    return tensor.to(torch.int64)
