"""Checks of single passes: what goes into one, what its logits are, what sees what."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdvar.decoding.result import DecodeResult
from sdvar.decoding.state import DecodeState
from sdvar.decoding.stepper import Stepper
from sdvar.decoding.strategies.base import Strategy
from sdvar.decoding.strategies.baseline import Baseline
from sdvar.decoding.strategies.handoff import Handoff
from sdvar.decoding.strategies.speculative import Speculative
from sdvar.entry import decode
from sdvar.pair import ModelPair
from sdvar.sampling import Sampling
from sdvar.selftest.cache_error import inputs_of_scales
from sdvar.selftest.result import ROUNDING, CheckResult, largest, relative_error

BASELINE = Baseline()
CFG = 1.5
SAMPLING = Sampling(CFG)  # guided and unfiltered: the filters are not checked here


def fresh_state(pair: ModelPair, B: int) -> DecodeState:
    """The decode of all checks before its first pass: labels spread over the classes, seeds 0 .. B - 1."""
    images = torch.arange(B, device=pair.device)
    return DecodeState(pair, images * pair.num_classes // B % pair.num_classes, images, SAMPLING)


def decoded(pair: ModelPair, B: int, strategy: Strategy, images: bool = False) -> DecodeResult:
    """What a strategy makes of it, with or without images."""
    state = fresh_state(pair, B)
    return decode(pair, state.labels, state.seeds, strategy, SAMPLING, images)


def inputs_of_tokens(pair: ModelPair, B: int, strategy: Strategy = BASELINE) -> Tensor:
    """(B, L - n_0, C_vae): `VQVAE.var_inputs` of the tokens that a strategy decodes."""
    return pair.tokenizer.var_inputs(decoded(pair, B, strategy).tokens)


def target_pass(state: DecodeState, strategy: Strategy, number: int) -> tuple[Tensor, int]:
    """Run a strategy; what the modules of the target saw in one of its passes, those over scale 0 alone not counted.

    Returns:
        The inputs (rows, positions, C_vae) and the number of positions that reached the first block.
    """
    target: Any = state.pair.target
    inputs, positions = [], []
    hooks = [
        target.word_embed.register_forward_pre_hook(lambda module, args: inputs.append(args[0])),
        target.blocks[0].register_forward_pre_hook(lambda module, args: positions.append(args[0].shape[1])),
    ]
    try:
        strategy.run(state)
    finally:
        for hook in hooks:
            hook.remove()
    passes = [seen for seen in zip(inputs, positions, strict=True) if seen[0].shape[1]]
    return passes[number]


def build_combined_query(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """The first verification has n_1 + n_2 + … positions; its inputs are those of the drafted tokens."""
    pyramid = pair.pyramid
    drafted = inputs_of_tokens(pair, B, Handoff(1, first="target"))  # scale 0 is the target's
    errors, problems, passes = [], [], []
    for draft_length in sorted({min(length, len(pyramid) - 2) for length in (0, 1, gamma)} - {-1}):
        strategy = Speculative(draft_length) if draft_length else Baseline()
        before = draft_length if pair.draft is pair.target else 0  # then the target's first passes are the draft's
        inputs, positions = target_pass(fresh_state(pair, B), strategy, before)
        last = draft_length + 2
        expected = inputs_of_scales(pyramid, drafted, 1, last).repeat(2, 1, 1)  # in both guidance branches
        errors.append(relative_error(inputs, expected))
        passes.append(f"1-{last - 1}: {positions}")
        wanted = pyramid.span_tokens(1, last)
        if positions != wanted:
            problems.append(f"scales 1-{last - 1} make {positions} positions in the target's pass, not {wanted}")
    meaning = (
        f"positions of a pass over scales {', '.join(passes)}; its inputs against the down-sampled f-hat of the "
        "drafted tokens"
    )
    return CheckResult(largest(errors), ROUNDING[drafted.dtype], meaning, problems)


def split_logits_by_stage(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """Splitting the logits of one pass over several scales gives those of one pass per scale."""
    pyramid, scales = pair.pyramid, len(pair.pyramid)
    inputs = inputs_of_tokens(pair, B)

    def logits(stepper: Stepper, first: int, last: int) -> Tensor:
        return stepper.logits(range(B), inputs_of_scales(pyramid, inputs, first, last), first, last, wanted_from=first)

    errors = []
    for which in ("target", "draft"):
        one_by_one, in_spans = (fresh_state(pair, B).stepper(which) for _ in range(2))
        for first in range(1, scales, gamma + 1):
            last = min(first + gamma + 1, scales)
            parts = pyramid.split(logits(in_spans, first, last), first, last)
            for scale, part in zip(range(first, last), parts, strict=True):
                errors.append(relative_error(part, logits(one_by_one, scale, scale + 1)))
    meaning = f"logits of passes over {gamma + 1} scales, split by scale, against one pass per scale; both models"
    return CheckResult(largest(errors), ROUNDING[pair.target.dtype], meaning)


def guidance_branches(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """The class and the null branch differ from the first input on and are combined as in VAR."""
    pyramid, scales, target, state = pair.pyramid, len(pair.pyramid), pair.target, fresh_state(pair, B)
    all_inputs, last = inputs_of_tokens(pair, B), min(gamma + 1, scales)
    inputs = inputs_of_scales(pyramid, all_inputs, 0, last)
    stepper = state.stepper("target")
    workspace: Any = stepper.workspace
    start, problems = workspace.conditioning.start, []
    guided_at_all = stepper.guided_scales > 0  # not in a pyramid of one scale
    if guided_at_all and (start.shape[0] != 2 * B or (start[:B] == start[B:]).flatten(1).all(1).any()):
        problems.append("the first input is the same for the class and the null class")
    guided = torch.cat(stepper.all_logits(all_inputs), dim=1)[:, : pyramid.offsets[last]]
    labels = state.labels.to(pair.device)
    null = torch.full_like(labels, pair.num_classes)
    of_class, of_null = (target.forward_span(target.condition(of), inputs, 0, last) for of in (labels, null))
    scale = pyramid.scale_of_position(0, last, pair.device)[:, None].to(guided.dtype)
    t = CFG * scale / max(1, scales - 1)
    error = relative_error(guided, (1 + t) * of_class - t * of_null)
    meaning = (
        "guided logits against (1 + t) class - t null of separate passes; the branches differ from the first input on"
    )
    return CheckResult(error, ROUNDING[pair.target.dtype], meaning, problems)


def block_causal_mask(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """A scale sees all of itself and of the scales before it, and nothing else."""
    pyramid, scales, target = pair.pyramid, len(pair.pyramid), pair.target
    problems = []
    of_position = torch.tensor([k for k, side in enumerate(pyramid.patch_nums) for _ in range(side * side)])
    last = min(gamma + 1, scales)
    for first, end, visible_from in ((0, scales, 0), (0, last, 0), (scales - last, scales, 0), (1, scales, 1)):
        if first < end:
            queries, keys = of_position[pyramid.span(first, end)], of_position[pyramid.span(visible_from, end)]
            if not torch.equal(pyramid.block_causal_mask(first, end, visible_from), queries[:, None] >= keys):
                problems.append(f"the mask of scales {first}-{end - 1} is not block-causal")
                break

    inputs = inputs_of_scales(pyramid, inputs_of_tokens(pair, B), 0, last)
    conditioning = target.condition(fresh_state(pair, B).labels.to(pair.device))
    logits = target.forward_span(conditioning, inputs, 0, last)
    leaks = []
    for scale in range(1, last):
        here = pyramid.span(scale, scale + 1)
        for position in (here.start, here.stop - 1):
            changed = inputs.clone()
            changed[:, position - pyramid.tokens[0]] += inputs.std()
            moved = target.forward_span(conditioning, changed, 0, last)
            leaks.append(relative_error(moved[:, : here.start], logits[:, : here.start]))
            if (moved[:, here] == logits[:, here]).all(-1).any():
                problems.append(f"positions of scale {scale} do not see a token of their own scale")
    # below the rounding of reduced precision: both passes take the same kernels on the same shapes
    limit = min(1e-6, ROUNDING[pair.target.dtype])
    meaning = "change of earlier scales' logits when a later scale's input changes; a scale sees all of itself"
    return CheckResult(largest(leaks), limit, meaning, list(dict.fromkeys(problems)))


def same_bits_in_every_pass(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """An image's logits are the same to the bit in a batch and alone, scale by scale and in spans."""
    pyramid, scales, target = pair.pyramid, len(pair.pyramid), pair.target
    labels, inputs = fresh_state(pair, B).labels.to(pair.device), inputs_of_tokens(pair, B)

    def logits(images: slice, step: int) -> Tensor:
        conditioning, cache = target.condition(labels[images]), target.new_cache(len(labels[images]))
        cuts = [(first, min(first + step, scales)) for first in range(0, scales, step)]
        spans = [(inputs_of_scales(pyramid, inputs[images], *cut), *cut) for cut in cuts]
        return torch.cat([target.forward_span(conditioning, *span, cache) for span in spans], dim=1)

    together = logits(slice(B), gamma + 1)
    alone = torch.cat([logits(slice(i, i + 1), 1) for i in range(B)])
    meaning = f"change of an image's logits between passes over {gamma + 1} scales of {B} images and single ones"
    return CheckResult((together - alone).abs().max().item(), 0.0, meaning)
