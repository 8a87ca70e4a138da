"""Where a pair's draft agrees with its target, on images with other seeds than those timed afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sdvar.decoding import decode_as_given
from sdvar.decoding.state import DecodeState
from sdvar.decoding.strategies.base import Strategy
from sdvar.decoding.strategies.baseline import Baseline
from sdvar.pair import ModelPair
from sdvar.planning.inputs import labels_and_seeds
from sdvar.sampling import Sampling

SEED_OFFSET = 2**41  # beyond those of runs, of reseeded arms and of the timing


@dataclass(frozen=True)
class Agreement:
    """What was measured on n images.

    Attributes:
        accepted: bool (n, K), whether the draft's picks of a scale, after the baseline's coarser scales, are all the
            baseline's.
        agreeing: float64 (K,), the share of its tokens that are.
        differing: per lossy strategy, the share of all tokens that differ from the baseline's.
    """

    accepted: np.ndarray
    agreeing: np.ndarray
    differing: dict[Strategy, float]


@torch.no_grad()
def measure_agreement(
    pair: ModelPair, sampling: Sampling, images: int, together: int, lossy: Sequence[Strategy] = ()
) -> Agreement:
    """Decode images with the baseline and compare what the draft picks with the same noise.

    Args:
        pair, sampling: what decodes.
        images: n.
        together: images per batch, at most.
        lossy: strategies whose tokens are compared with the baseline's.
    """
    accepted, agreeing = [], []
    differing: dict[Strategy, list[float]] = {strategy: [] for strategy in lossy}
    all_labels, all_seeds = labels_and_seeds(images, 0, pair.num_classes, pair.device)
    for labels, seeds in zip(all_labels.split(together), (all_seeds + SEED_OFFSET).split(together)):
        tokens = decode_as_given(pair, labels, seeds, Baseline(), sampling, images=False).tokens
        state, rows = DecodeState(pair, labels, seeds, sampling), range(len(labels))
        inputs = pair.tokenizer.var_inputs(tokens)  # the draft reads the baseline's tokens in one pass
        logits = state.stepper("draft").all_logits(inputs)
        equal = [state.pick(rows, k, part) == tokens[k] for k, part in enumerate(logits)]
        state.close()
        accepted.append(torch.stack([scale.all(1) for scale in equal], dim=1).cpu().numpy())
        agreeing.append(torch.stack([scale.double().mean(1) for scale in equal], dim=1).cpu().numpy())
        for strategy, shares in differing.items():
            other = decode_as_given(pair, labels, seeds, strategy, sampling, images=False).tokens
            shares += share_differing(tokens, other).tolist()
    return Agreement(
        np.concatenate(accepted),
        np.concatenate(agreeing).mean(0),
        {strategy: float(np.mean(shares)) for strategy, shares in differing.items()},
    )


def simulated_agreement(rates: Sequence[float], images: int) -> Agreement:
    """Drafted scales accepted with given probabilities, one per scale, whatever their tokens."""
    accepted = np.random.default_rng(0).random((images, len(rates))) < np.array(rates)
    return Agreement(accepted, accepted.mean(0), {})


def share_differing(tokens: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> torch.Tensor:
    """Share of each image's tokens that differ, K int64 tensors (B, n_k) each: float64 (B,) on the CPU."""
    return torch.cat([a != b for a, b in zip(tokens, others, strict=True)], dim=1).double().mean(1).cpu()
