"""Checks of whole decodes: caches, f-hat, acceptance, exactness, the image."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from sdvar import noise
from sdvar.decoding.acceptance import Acceptance, Coupled, Proposal, Verdict
from sdvar.decoding.compare import first_differences
from sdvar.decoding.strategies.baseline import Baseline
from sdvar.decoding.strategies.speculative import Speculative
from sdvar.pair import ModelPair
from sdvar.selftest.cache_error import cache_error
from sdvar.selftest.model_checks import SAMPLING, decoded, fresh_state
from sdvar.selftest.result import NEAR_TIES, ROUNDING, CheckResult, largest, relative_error


@dataclass(frozen=True)
class Overrule(Acceptance):
    """Replaces a token of every drafted scale, so that caches are truncated however well the models agree.

    Args:
        accepted: whether the round goes on after such a scale.
    """

    accepted: bool

    def judge(self, proposal: Proposal) -> Verdict:
        tokens = proposal.drafted.clone()
        tokens[:, 0] = (tokens[:, 0] + 1) % proposal.codebook.shape[0]
        accepted = torch.full_like(tokens[:, 0], self.accepted, dtype=torch.bool)
        return Verdict(tokens, accepted, tokens == proposal.drafted)


@dataclass(frozen=True)
class NotedGaps(Coupled):
    """Coupled, noting by how much of a score each disagreeing token missed (without filters)."""

    gaps: list[float] = field(default_factory=list)

    def judge(self, proposal: Proposal) -> Verdict:
        verdict = super().judge(proposal)
        if not verdict.agreed.all():
            logits = proposal.target_logits
            _, positions, entries = logits.shape
            scores = logits + noise.gumbel(proposal.seeds, "pick", proposal.scale, positions, entries, logits.dtype)
            short = scores.amax(-1) - scores.gather(-1, proposal.drafted[..., None]).squeeze(-1)
            self.gaps.extend(short[~verdict.agreed].tolist())
        return verdict


def cache_after_truncation(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """After rejections both caches contain what the committed scales give."""
    errors, rejections = [], 0
    for rule in (Coupled(), Overrule(accepted=True), Overrule(accepted=False)):
        state = fresh_state(pair, B)
        Speculative(gamma, rule).run(state)
        errors.append(cache_error(state))
        rejections += int((state.counts.drafted_scales - state.counts.accepted_scales).sum())
    meaning = f"cached keys and values against a fresh pass over the committed scales, after {rejections} rejections"
    return CheckResult(largest(errors), ROUNDING[pair.target.dtype], meaning)


def f_hat_updated_once(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """f-hat is the sum of one contribution per committed scale."""
    state = fresh_state(pair, B)
    Speculative(gamma).run(state)
    quantizer, pyramid, maps = pair.tokenizer.quantize, pair.pyramid, state.maps
    tokens = list(pyramid.split(maps.tokens))
    # no input is made from the last scale
    f_hat = sum((quantizer.contribution(tokens[k], k) for k in range(len(pyramid) - 1)), quantizer.empty_f_hat(B))
    inputs = maps.committed_inputs(range(B), 0, len(pyramid))
    errors = relative_error(maps.f_hat, f_hat), relative_error(inputs, pair.tokenizer.var_inputs(tokens))
    meaning = "f-hat and the inputs after a decode against the sum of one contribution per committed scale"
    return CheckResult(largest(errors), ROUNDING[f_hat.dtype], meaning)


def draft_equals_target(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """With the target as its own draft every scale is accepted, in ceil((K - 1) / (gamma + 1)) target calls."""
    same = ModelPair(pair.target, pair.target, pair.tokenizer)  # the loaded target again, no copy
    rule = NotedGaps()
    stats = decoded(same, B, Speculative(gamma, rule)).stats
    calls = -(-(len(pair.pyramid) - 1) // (gamma + 1))  # scale 0 takes none
    rejections = int((stats.drafted_scales - stats.accepted_scales).sum())
    problems = []
    if rejections > len(rule.gaps):
        problems.append(f"{rejections} scales were rejected, with {len(rule.gaps)} tokens that differ")
    # a round that ends early costs at most one more
    if not 0 <= int(stats.target_calls.sum()) - calls * B <= rejections:
        problems.append(
            f"target calls {stats.target_calls.tolist()}, not {calls} per image and at most {rejections} more"
        )
    meaning = (
        f"largest score gap of a rejected token: {len(rule.gaps)} of {int(stats.drafted_tokens.sum())} rejected; "
        f"target calls {stats.target_calls.min()} to {stats.target_calls.max()}, {calls} if everything is accepted"
    )
    return CheckResult(largest(rule.gaps), NEAR_TIES[pair.target.dtype], meaning, problems)


def coupled_equals_baseline(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """Speculative decoding with `Coupled` gives the baseline's tokens."""
    state, dtype = fresh_state(pair, B), pair.target.dtype
    baseline, ours = (decoded(pair, B, strategy).tokens for strategy in (Baseline(), Speculative(gamma)))
    gaps = first_differences(pair, state.labels, state.seeds, SAMPLING, ours, baseline)
    agreement = (torch.cat(ours, 1) == torch.cat(baseline, 1)).double().mean().item()
    gaps = gaps[~gaps.isnan()]
    meaning = (
        f"largest score gap where an image first differs from the baseline: {len(gaps)} of {B} images differ, "
        f"{agreement:.2%} of all tokens agree"
    )
    if dtype in (torch.bfloat16, torch.float16):
        eps = torch.finfo(dtype).eps
        meaning += f"; {str(dtype)[6:]} rounds a logit of 32 by {32 * eps:g}, twice that is the limit"
    return CheckResult(largest(gaps.tolist()), NEAR_TIES[dtype], meaning)


def image_end_to_end(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """Images are finite, in range, of the right size, and the same each time."""
    results = [decoded(pair, B, Speculative(gamma), images=True).images for _ in range(2)]
    images, again = [each for each in results if each is not None]
    side = pair.tokenizer.image_size
    problems = []
    if images.shape != (B, 3, side, side) or images.dtype != torch.float32:
        problems.append(f"expected float32 {(B, 3, side, side)}, got {images.dtype} {tuple(images.shape)}")
    if not images.isfinite().all():
        problems.append("pixels are NaN or infinite")
    elif images.min() < 0 or images.max() > 1:
        problems.append(f"pixels from {images.min():.3g} to {images.max():.3g}, expected 0 to 1")
    difference = (images - again).abs().max().item()
    meaning = f"pixel difference between two runs; {B} finite images of {side} x {side} in [0, 1]"
    return CheckResult(difference, 0.0, meaning, problems)
