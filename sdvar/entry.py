"""The entry to decoding: what gamma "auto" stands for is found out before an image is decoded."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sdvar.arguments import check_bool
from sdvar.decoding import check_call, decode_as_given
from sdvar.decoding.result import DecodeResult
from sdvar.decoding.strategies.base import Strategy
from sdvar.decoding.strategies.speculative import Speculative
from sdvar.decoding.surroundings import set_aside
from sdvar.decoding.timing import Clock
from sdvar.pair import ModelPair
from sdvar.planning.tuning import resolved
from sdvar.sampling import Sampling


def decode(
    pair: ModelPair,
    labels: Sequence[int] | Tensor,
    seeds: Sequence[int] | Tensor,
    strategy: Strategy,
    sampling: Sampling | None = None,
    images: bool = True,
    clock: Clock | None = None,
) -> DecodeResult:
    """Decode one image per label.

    An image depends on (weights, label, seed, strategy, sampling) alone, not on the others of the batch; only float
    rounding may differ with the batch size, the thread count and the kernels. Autocast, the
    default device and dtype, and `torch.set_float32_matmul_precision` on a CPU have no effect: the precision is that of
    the loaded weights.

    Args:
        pair: the models.
        labels: B class labels, 0 .. num_classes; ``num_classes`` is the null class.
        seeds: B seeds, any signed 64-bit ints.
        strategy: Baseline, Speculative, Handoff, Parallel. With gamma "auto" the first decode of a batch size takes
            the time of some 30 more, at most 15 seconds: it measures what is fastest. `sdvar.tune` measures longer.
        sampling: guidance and filters; ``Sampling()`` if None.
        images: whether to run the tokenizer's decoder.
        clock: measures the time of the parts, see sdvar.decoding.timing; None for no such measurement.

    Raises:
        TypeError, ValueError: naming the argument, what was given and what is allowed, before any model runs.
        ValueError: after the decode, if a model's logits were NaN or infinite.
    """
    if not isinstance(pair, ModelPair):
        raise TypeError(f'pair: expected a sdvar.ModelPair such as sdvar.load_pair("tiny"), got {pair!r:.60}')
    check_bool("images", images)
    sampling = Sampling() if sampling is None else sampling
    if isinstance(strategy, Speculative) and strategy.auto:
        with set_aside(pair.device):
            labels, seeds = check_call(pair, labels, seeds, strategy, sampling)
            strategy = resolved(strategy, pair, sampling, len(labels))
    return decode_as_given(pair, labels, seeds, strategy, sampling, images, clock)
