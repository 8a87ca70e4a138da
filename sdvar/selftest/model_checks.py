"""Checks of single passes: what goes into one, what its logits are, what sees what."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdvar.decoding import decode
from sdvar.decoding.baseline import Baseline
from sdvar.decoding.speculative import Speculative
from sdvar.decoding.state import DecodeState
from sdvar.decoding.strategy import Strategy
from sdvar.pair import ModelPair
from sdvar.sampling import Sampling
from sdvar.selftest.cache_error import inputs_of_scales
from sdvar.selftest.result import ROUNDING, CheckResult, largest, relative_error

SAMPLING = Sampling()  # guided and unfiltered: the filters are not checked here


def batch(pair: ModelPair, B: int) -> tuple[Tensor, Tensor]:
    """Labels spread over the classes and seeds, int64 (B,) each."""
    images = torch.arange(B, device=pair.device)
    return images * pair.num_classes // B % pair.num_classes, images


def inputs_of_tokens(pair: ModelPair, labels: Tensor, seeds: Tensor, model: str = "target") -> Tensor:
    """(B, L - n_0, C_vae): `VQVAE.var_inputs` of the tokens that a model decodes alone."""
    return pair.tokenizer.var_inputs(decode(pair, labels, seeds, Baseline(model), SAMPLING, images=False).tokens)


def target_pass(pair: ModelPair, state: DecodeState, strategy: Strategy, number: int) -> tuple[Tensor, int]:
    """Run a strategy; what the modules of the target saw in one of its passes.

    Returns:
        The inputs (rows, positions without scale 0, C_vae) and the number of positions that reached the first block.
    """
    target: Any = pair.target
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
    return inputs[number], positions[number]


def build_combined_query(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """A verification has n_0 + n_1 + … positions; its inputs are those of the drafted tokens."""
    labels, seeds = batch(pair, B)
    pyramid = pair.pyramid
    drafted = inputs_of_tokens(pair, labels, seeds, "draft")
    errors, problems, passes = [], [], []
    for draft_length in sorted({0, min(1, len(pyramid) - 1), min(gamma, len(pyramid) - 1)}):
        strategy = Speculative(draft_length) if draft_length else Baseline()
        before = draft_length if pair.draft is pair.target else 0  # then the target's first passes are the draft's
        state = DecodeState(pair, labels, seeds, SAMPLING)
        inputs, positions = target_pass(pair, state, strategy, before)
        expected = inputs_of_scales(pyramid, drafted, 0, draft_length + 1).repeat(2, 1, 1)  # in both guidance branches
        errors.append(relative_error(inputs, expected))
        passes.append(f"0-{draft_length}: {positions}")
        wanted = pyramid.span_tokens(0, draft_length + 1)
        if positions != wanted:
            problems.append(f"scales 0-{draft_length} make {positions} positions in the target's pass, not {wanted}")
    meaning = (
        f"positions of a pass over scales {', '.join(passes)}; its inputs against the down-sampled f-hat of the "
        "drafted tokens"
    )
    return CheckResult(largest(errors), ROUNDING[drafted.dtype], meaning, problems)


def split_logits_by_stage(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """Splitting the logits of one pass over several scales gives those of one pass per scale."""
    labels, seeds = batch(pair, B)
    pyramid, scales, images = pair.pyramid, len(pair.pyramid), range(B)
    inputs = inputs_of_tokens(pair, labels, seeds)
    errors = []
    for which in ("target", "draft"):
        one_by_one = DecodeState(pair, labels, seeds, SAMPLING).stepper(which)
        in_spans = DecodeState(pair, labels, seeds, SAMPLING).stepper(which)
        for first in range(0, scales, gamma + 1):
            last = min(first + gamma + 1, scales)
            part_of_inputs = inputs_of_scales(pyramid, inputs, first, last)
            logits = in_spans.logits(images, part_of_inputs, first, last, wanted_from=first)
            for scale, part in zip(range(first, last), pyramid.split(logits, first, last), strict=True):
                alone = inputs_of_scales(pyramid, inputs, scale, scale + 1)
                wanted = one_by_one.logits(images, alone, scale, scale + 1, wanted_from=scale)
                errors.append(relative_error(part, wanted))
    meaning = f"logits of passes over {gamma + 1} scales, split by scale, against one pass per scale; both models"
    return CheckResult(largest(errors), ROUNDING[pair.target.dtype], meaning)


def guidance_branches(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    """The class and the null branch differ from the first input on and are combined as in VAR."""
    labels, seeds = batch(pair, B)
    pyramid, scales, target = pair.pyramid, len(pair.pyramid), pair.target
    last = min(gamma + 1, scales)
    inputs = inputs_of_scales(pyramid, inputs_of_tokens(pair, labels, seeds), 0, last)
    stepper = DecodeState(pair, labels, seeds, SAMPLING).stepper("target")
    workspace: Any = stepper.workspace
    start, problems = workspace.conditioning.start, []
    if start.shape[0] != 2 * B or (start[:B] == start[B:]).flatten(1).all(1).any():
        problems.append("the first input is the same for the class and the null class")
    guided = stepper.logits(range(B), inputs, 0, last, wanted_from=0)
    null = torch.full_like(labels, pair.num_classes)
    of_class, of_null = (target.forward_span(target.condition(of), inputs, 0, last) for of in (labels, null))
    scale = pyramid.scale_of_position(0, last, pair.device)[:, None].to(guided.dtype)
    t = SAMPLING.cfg * scale / max(1, scales - 1)
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

    labels, seeds = batch(pair, B)
    inputs = inputs_of_scales(pyramid, inputs_of_tokens(pair, labels, seeds), 0, last)
    conditioning = target.condition(labels)
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
