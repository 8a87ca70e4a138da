"""What decoding took: calls and tokens of both models, acceptance by scale, and agreement with the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from eval.metrics.metric import ArmTables, Column, Metric, Result, Values

PER_IMAGE = {
    "target_calls": "passes of the target per image",
    "draft_calls": "passes of the draft per image",
    "target_tokens": "positions that the target processes per image",
    "draft_tokens": "positions that the draft processes per image",
}


def work(tables: ArmTables) -> Result:
    """Means over images of calls and tokens, and shares of the drafted tokens and scales, by scale."""
    means = {f"{name}_mean": fmean(int(row[name]) for row in tables.rows) for name in PER_IMAGE}
    return means | {
        "agreement_per_scale": _shares(tables.batches, "agreed_tokens", "drafted_tokens"),
        "accepted_scales_per_scale": _shares(tables.batches, "accepted_scales", "drafted_scales"),
    }, []


def _shares(batches: Sequence[Mapping[str, str]], part: str, whole: str) -> list[float | None]:
    parts, wholes = (
        [sum(counts) for counts in zip(*([int(count) for count in row[name].split()] for row in batches), strict=True)]
        for name in (part, whole)
    )
    return [a / b if b else None for a, b in zip(parts, wholes, strict=True)]


def has_baselines_seeds(tables: ArmTables) -> bool:
    """Whether the manifest compares the images with the baseline's: it does not where the seeds differ."""
    return tables.rows[0]["tokens_equal_baseline"] != ""


def agreement(tables: ArmTables) -> Result:
    """Tokens and images equal to the baseline's, and for an exact arm how many differ by a near-tie alone."""
    from sdvar import NEAR_TIE

    rows, arm = tables.rows, tables.arm
    if not has_baselines_seeds(tables):
        return {}, []
    differing = sum(row["tokens_equal_baseline"] != "1" for row in rows)
    values: Values = {
        "token_agreement_with_baseline": sum(int(row["agreeing_tokens"]) for row in rows) / (len(rows) * tables.length),
        "images_differing_from_baseline": differing,
    }
    if not arm.exact:
        return values, []
    gaps = [float(row["score_gap"]) for row in rows if row["score_gap"]]
    near, largest = sum(gap < NEAR_TIE for gap in gaps), max(gaps, default=None)
    values |= {"near_tie_images": near, "largest_first_difference_gap": largest}
    if differing == near:
        return values, []
    return values, [
        f"{differing - near} images differ from the baseline by more than a near-tie (largest score gap "
        f"{largest:.1e}): the arm is not exact here"
    ]


WORK = Metric(
    name="work",
    title="Work per image",
    help="calls and tokens of both models",
    needs="tables",
    compute=work,
    columns=(
        *(
            Column(
                f"{name}_mean",
                description,
                title=name.replace("_", " "),
                terminal=name.endswith("calls"),
                decimals=2 if name.endswith("calls") else 0,
                better="lower" if name.startswith("target") else None,
                minimum=0,
                always=True,
            )
            for name, description in PER_IMAGE.items()
        ),
        Column.share(
            "agreement_per_scale",
            "share of drafted tokens that the target would have picked, by scale; null where none were drafted",
            dimensions=1,
            nullable=True,
            always=True,
        ),
        Column.share(
            "accepted_scales_per_scale",
            "share of drafted scales that were accepted",
            dimensions=1,
            nullable=True,
            always=True,
        ),
    ),
)

AGREEMENT = Metric(
    name="agreement",
    title="Agreement with the baseline",
    help="tokens as the baseline's",
    needs="tables",
    compute=agreement,
    columns=(
        Column.share(
            "token_agreement_with_baseline",
            "share of tokens equal to the baseline's",
            title="tokens as baseline",
            terminal=True,
            decimals=4,
            better="higher",
        ),
        Column.count("images_differing_from_baseline", "images with a token that is not the baseline's"),
        Column.count(
            "near_tie_images",
            "of these, those whose first difference is one of rounding",
            title="near-ties",
            terminal=True,
        ),
        Column(
            "largest_first_difference_gap",
            "largest gap between the target's scores of two tokens that differ; null where none differ",
            nullable=True,
        ),
    ),
)
