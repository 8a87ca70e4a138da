"""The likelihood audit: an arm's tokens scored under the target, see `sdvar.audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.metrics.intervals import stated
from eval.metrics.metric import Column, Metric, Result

IMAGES = 250  # of each arm, where nothing else is asked for: they cost little, and show most faults

if TYPE_CHECKING:
    from sdvar.audit import Scores


def compute(scores: Scores) -> Result:
    """Tests and means of an arm's scores."""
    outside = int(scores.outside.sum())
    values = {
        "likelihood_images": scores.images,
        "outside_support_tokens": outside,
        "outside_support_share": outside / (scores.images * int(scores.tokens.sum())),
        "unfiltered_nats_per_token": scores.unfiltered_nats_per_token,
    }
    if not int(scores.inside.sum()):
        return values, ["likelihood: every token is outside of the target's support"]
    for name in ("nats_per_token", "nats_per_image", "excess_per_token"):
        key = name.replace("excess", "excess_nats")
        values[key], interval = getattr(scores, name)
        values |= stated(key, interval, scores.images)
    return values | {
        "entropy_per_token": scores.entropy_per_token,
        "likelihood_z": scores.z,
        "likelihood_p_value": scores.p_value,
        "likelihood_z_per_scale": scores.z_per_scale,
        "likelihood_rank_p_values": scores.rank_p_values,
        "likelihood_smallest_p_value": scores.smallest_p_value,
    }, []


LIKELIHOOD = Metric(
    name="nll",
    title="Likelihood under the target",
    help="likelihood of the tokens under the target",
    needs="scores",
    compute=compute,
    columns=(
        Column(
            "nats_per_token",
            "mean of -log p(token), p being what the baseline picks from",
            title="nats per token",
            decimals=4,
            minimum=0,
            interval=True,
        ),
        Column("nats_per_image", "the same per image", decimals=2, minimum=0, interval=True),
        Column("entropy_per_token", "mean entropy of p in nats", title="entropy", decimals=4, minimum=0),
        Column(
            "excess_nats_per_token",
            "nats per token beyond the entropy: 0 for draws from the target",
            title="excess nats",
            decimals=4,
            interval=True,
        ),
        Column("likelihood_z", "standard normal for draws from the target", title="z", decimals=2),
        Column.share("likelihood_p_value", "of z, two-sided"),
        Column("likelihood_z_per_scale", "z of each scale alone", dimensions=1),
        Column.share(
            "likelihood_rank_p_values",
            "by scale, of the Kolmogorov-Smirnov test that the tokens' ranks in p are uniform",
            dimensions=1,
        ),
        Column(
            "likelihood_smallest_p_value",
            "of z, of z by scale and of the ranks by scale together, adjusted for their number: below 0.001 the tokens "
            "are not draws from the target",
            title="p-value",
            terminal=True,
            decimals=3,
            minimum=0,
        ),
        Column.count("likelihood_images", "images that were scored"),
        Column.count(
            "outside_support_tokens",
            "tokens that the baseline cannot pick, p = 0; the above are without them",
            title="outside support",
        ),
        Column.share("outside_support_share", "their share of all tokens"),
        Column(
            "unfiltered_nats_per_token",
            "mean of -log p(token) before top-k and top-p, over all tokens",
            title="unfiltered nats",
            decimals=4,
            minimum=0,
        ),
    ),
)
