"""The columns of a run's tables, by name: one home for those who write, read and accept them."""

from __future__ import annotations

from sdvar.decoding.timing import PARTS

PER_IMAGE = ("target_calls", "draft_calls", "target_tokens", "draft_tokens")
PER_SCALE = ("drafted_tokens", "agreed_tokens", "drafted_scales", "accepted_scales")
PER_ROUND = ("drafted_rounds", "accepted_rounds")
PART_SECONDS = tuple(f"{part}_seconds" for part in PARTS)

MANIFEST_COLUMNS = (
    "index",
    "label",
    "seed",
    "file",
    *PER_IMAGE,
    "tokens_equal_baseline",
    "agreeing_tokens",
    "score_gap",
    "sha256",
)
BATCH_COLUMNS = (
    "batch",
    "images",
    "seconds",
    *PER_SCALE,
    *PER_ROUND,
    *PART_SECONDS,
    "baseline_seconds",
    "tokens_sha256",
)
ROW_DIGEST = "row_sha256"  # the last column of both tables, see `lightning_modules.run.formats.rows.row_digest`
