"""How sure a Fréchet distance is: influences of the images, and the distance at infinitely many.

The distance |m - m'|² + tr(S + S' - 2 (S S')^½) of means m and covariances S has the derivative 2 (m - m') in m and
I - G in S, where G = R' (R' S R')^-½ R' and R' = S'^½. So one product with all features gives each image's influence.
For N images of C features that is N C² multiplications, as one covariance, and some eigenvalue problems of size C.

Products are in float64, on the GPU if there is one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eval.metrics.intervals import standard_error

PARTS = (1, 2, 4)  # the distance of so many equal parts of the images, from which it is extrapolated
ROWS = 8192  # centred at once


class Moments(NamedTuple):
    """Mean (C,) and covariance (C, C), float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Of the features (N, C) of some images."""
        mean = features.double().mean(0)
        total = mean.new_zeros(len(mean), len(mean))
        for rows in features.split(ROWS):
            centred = rows.double() - mean
            total += centred.T @ centred
        return cls(mean, total / (len(features) - 1))

    @classmethod
    def given(cls, statistics: dict[str, np.ndarray]) -> Moments:
        """From the statistics of a reference."""
        return cls(*(torch.from_numpy(np.asarray(statistics[key], np.float64)).to(device()) for key in ("mu", "sigma")))


class Extrapolated(NamedTuple):
    """A distance at infinitely many images.

    Attributes:
        value: the intercept of a line in 1 / n through the distances of n images.
        error: its standard error.
    """

    value: float
    error: float


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def distance(ours: Moments, theirs: Moments) -> float:
    """The Fréchet distance."""
    root = _root(theirs.covariance)
    shared = torch.linalg.eigvalsh(root @ ours.covariance @ root).clamp_min(0).sqrt().sum()
    traces = ours.covariance.trace() + theirs.covariance.trace()
    return float((ours.mean - theirs.mean).square().sum() + traces - 2 * shared)


def influences(features: Tensor, ours: Moments, theirs: Moments) -> np.ndarray:
    """What each of N images adds to its set's distance to another, times N: float64 (N,) of mean 0.

    Args:
        features: (N, C).
        ours: their moments.
        theirs: of the other set, which does not change.
    """
    root = _root(theirs.covariance)
    values, vectors = torch.linalg.eigh(root @ ours.covariance @ root)
    kept = values > values.max() * 1e-10  # fewer images than features leave directions without any
    inverse = torch.where(kept, values.clamp_min(0), torch.inf).rsqrt()
    root_vectors = root @ vectors
    bent = torch.eye(len(root), dtype=root.dtype, device=root.device) - (root_vectors * inverse) @ root_vectors.T
    parts = []
    for rows in features.split(ROWS):
        centred = rows.double() - ours.mean
        parts.append(((centred @ bent) * centred).sum(1) + 2 * centred @ (ours.mean - theirs.mean))
    found = torch.cat(parts).cpu().numpy()
    return found - found.mean()


def extrapolate(ours: Tensor, theirs: Tensor | Moments, first_order: float) -> Extrapolated | None:
    """The distance at infinitely many images (Chong and Forsyth, 2020), from equal parts of them.

    Args:
        ours: features (N, C).
        theirs: the other set's features of the same N images, of which the same parts are taken; or its moments, which
            stay the same.
        first_order: standard error of the distance of all N images.

    Returns:
        None if half of the images are fewer than the features: their covariance is singular.
    """
    count, width = ours.shape
    levels, last = [], np.zeros(0)
    order = torch.from_numpy(np.random.default_rng(2020).permutation(count)).to(ours.device)
    for parts in PARTS:
        size = count // parts
        if size <= width:
            break
        last = np.array([_part_distance(ours, theirs, rows) for rows in order[: size * parts].split(size)])
        levels.append((1 / size, last.mean()))
    if len(levels) < 2:
        return None
    inverse, means = np.array(levels).T
    slopes = inverse - inverse.mean()
    weights = 1 / len(inverse) - inverse.mean() * slopes / (slopes @ slopes)  # of each distance in the intercept
    # to first order all levels move together; the rest, of size 1 / n in each part, is seen in the smallest parts
    spread = last.var(ddof=1) if len(last) > 1 else 0.0
    rest = max(0.0, spread - first_order**2 * count * inverse[-1]) / inverse[-1] ** 2
    error = np.sqrt(first_order**2 + float(weights**2 @ inverse) * rest / count)
    return Extrapolated(float(weights @ means), float(error))


def _part_distance(ours: Tensor, theirs: Tensor | Moments, rows: Tensor) -> float:
    other = theirs if isinstance(theirs, Moments) else Moments.of(theirs[rows])
    return distance(Moments.of(ours[rows]), other)


def paired_error(*of_images: np.ndarray) -> float:
    """Standard error of a sum of means over the same images, influences (N,) each."""
    return standard_error(np.sum(of_images, axis=0))


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
