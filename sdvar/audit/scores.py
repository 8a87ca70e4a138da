"""What the target says of the tokens of some images, and the tests of whether they are draws from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdvar.audit.significance import Estimate, adjusted, kolmogorov_p_value, normal_p_value, ratio

BINS = 1024  # of a rank, from 0 to 1


@dataclass(frozen=True)
class Scores:
    """Sums over the positions of each of K scales, for N images; on the CPU.

    p is the distribution that the baseline picks a position's token from. Tokens that it cannot pick, p = 0, are
    outside of its support: they are counted, and the other sums are without them.

    If the tokens were drawn from the target, whatever the seeds, then nats - entropy has mean 0 given all earlier
    scales and the variance below (it is a martingale), and ranks are independent and uniform.

    Attributes:
        nats: of -log p(token), float64 (N, K).
        entropy: of the entropies of p, float64 (N, K).
        variance: of the variances of log p under p, float64 (N, K).
        outside: tokens outside of the support, int64 (N, K).
        unfiltered: of -log p(token) without top-k and top-p, over all tokens, float64 (N, K).
        ranks: how often a token's rank fell into each of `BINS` parts of 0 .. 1, int64 (K, BINS). The rank is the mass
            of the tokens more likely than it plus a random part of the mass of those as likely as it.
        tokens: positions of each scale, int64 (K,).
    """

    nats: Tensor
    entropy: Tensor
    variance: Tensor
    outside: Tensor
    unfiltered: Tensor
    ranks: Tensor
    tokens: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """The scores of all images of some parts."""
        of_images = ("nats", "entropy", "variance", "outside", "unfiltered")
        sums = {name: torch.cat([getattr(part, name) for part in parts]) for name in of_images}
        return cls(**sums, ranks=torch.stack([part.ranks for part in parts]).sum(0), tokens=parts[0].tokens)

    @property
    def images(self) -> int:
        return len(self.nats)

    @property
    def inside(self) -> Tensor:
        """Tokens inside the support, int64 (N, K)."""
        return self.tokens - self.outside

    @property
    def z(self) -> float:
        """Standard normal if the tokens are draws from the target; above 0 they are less likely than such draws."""
        return _z(self.nats - self.entropy, self.variance)

    @property
    def z_per_scale(self) -> list[float]:
        """The same of each scale alone."""
        return [_z(*of_scale) for of_scale in zip((self.nats - self.entropy).unbind(1), self.variance.unbind(1))]

    @property
    def p_value(self) -> float:
        """Of `z`, two-sided."""
        return normal_p_value(self.z)

    @property
    def rank_p_values(self) -> list[float]:
        """Of the Kolmogorov-Smirnov test that the ranks of a scale are uniform, by scale; 1 where there is no rank."""
        p_values = []
        for counts in self.ranks.double():
            count = int(counts.sum())
            expected = torch.arange(1, BINS + 1, dtype=torch.float64) / BINS
            distance = float((counts.cumsum(0) / count - expected).abs().max()) if count else 0.0
            p_values.append(kolmogorov_p_value(distance, count) if count else 1.0)
        return p_values

    @property
    def smallest_p_value(self) -> float:
        """Of all 2K + 1 tests together: the smallest of their p-values, times their number."""
        return adjusted([self.p_value, *map(normal_p_value, self.z_per_scale), *self.rank_p_values])

    @property
    def nats_per_token(self) -> Estimate:
        """Mean of -log p, with its 95 % interval over the images."""
        return ratio(self.nats.sum(1), self.inside.sum(1).double())

    @property
    def nats_per_image(self) -> Estimate:
        """Mean over the images of the sum of -log p, with its 95 % interval."""
        return ratio(self.nats.sum(1), torch.ones(self.images, dtype=torch.float64))

    @property
    def entropy_per_token(self) -> float:
        """Mean entropy of p, in nats."""
        return float(self.entropy.sum() / self.inside.sum())

    @property
    def excess_per_token(self) -> Estimate:
        """How much the mean of -log p exceeds the mean entropy: 0 for draws from the target; with a 95 % interval."""
        return ratio((self.nats - self.entropy).sum(1), self.inside.sum(1).double())

    @property
    def unfiltered_nats_per_token(self) -> float:
        """Mean of -log p over all tokens, without the filters."""
        return float(self.unfiltered.sum() / (self.images * self.tokens.sum()))


def _z(drift: Tensor, variance: Tensor) -> float:
    """0 where p leaves no choice: then a token inside its support has no drift either."""
    spread = float(variance.sum()) ** 0.5
    return float(drift.sum()) / spread if spread > 1e-9 else 0.0
