"""Checks of single passes: what goes into one, what its logits are, what sees what."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sdvar.decoding import decode
from sdvar.decoding.baseline import Baseline
from sdvar.decoding.speculative import Speculative
from sdvar.decoding.state import DecodeState
from sdvar.decoding.strategy import Strategy
from sdvar.pair import ModelPair
from sdvar.sampling import Sampling
from sdvar.selftest.result import ROUNDING, CheckResult, judged, precision, relative_error

SAMPLING = Sampling()  # guided and unfiltered: the filters are no part of what is checked


def batch(pair: ModelPair, B: int) -> tuple[Tensor, Tensor]:
    """Labels spread over the classes and seeds, int64 (B,) each."""
    images = torch.arange(B, device=pair.device)
    return images * pair.num_classes // B % pair.num_classes, images


class Pass(NamedTuple):
    """What one pass of a model was given.

    Attributes:
        inputs: (rows, positions without scale 0, C_vae).
        hidden: (rows, positions, C), what the first block sees.
    """

    inputs: Tensor
    hidden: Tensor


def target_pass(pair: ModelPair, state: DecodeState, strategy: Strategy, number: int) -> Pass:
    """Run a strategy and return one of the target's passes, as its own modules saw it."""
    inputs, hidden = [], []
    hooks = [
        pair.target.word_embed.register_forward_pre_hook(lambda module, args: inputs.append(args[0])),
        pair.target.blocks[0].register_forward_pre_hook(lambda module, args: hidden.append(args[0])),
    ]
    try:
        strategy.run(state)
    finally:
        for hook in hooks:
            hook.remove()
    return Pass(inputs[number], hidden[number])


def build_combined_query(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    labels, seeds = batch(pair, B)
    pyramid, n_0 = pair.pyramid, pair.pyramid.tokens[0]
    drafted = decode(pair, labels, seeds, Baseline("draft"), SAMPLING, images=False).tokens
    expected = pair.tokenizer.var_inputs(drafted)
    figure, problems, lengths = 0.0, [], []
    for draft_length in sorted({0, min(1, len(pyramid) - 1), min(gamma, len(pyramid) - 1)}):
        strategy = Speculative(draft_length) if draft_length else Baseline()
        before = draft_length if pair.draft is pair.target else 0  # then the target's first passes are the draft's
        first = target_pass(pair, DecodeState(pair, labels, seeds, SAMPLING), strategy, before)
        positions = pyramid.span_tokens(0, draft_length + 1)
        if first.hidden.shape[1] != positions:
            problems.append(
                f"scales 0-{draft_length} make {first.hidden.shape[1]} positions in the target's pass, not {positions}"
            )
        else:
            wanted = expected[:, : positions - n_0].repeat(2, 1, 1)  # the same in both guidance branches
            figure = max(figure, relative_error(first.inputs, wanted))
        lengths.append(f"0-{draft_length}: {first.hidden.shape[1]}")
    meaning = (
        f"positions of a pass over scales {', '.join(lengths)}; its inputs against the down-sampled f-hat of the "
        "drafted tokens"
    )
    return judged("build_combined_query", figure, ROUNDING[precision(pair.tokenizer)], meaning, problems)


def split_logits_by_stage(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    labels, seeds = batch(pair, B)
    pyramid, scales, images = pair.pyramid, len(pair.pyramid), range(B)
    inputs = pair.tokenizer.var_inputs(decode(pair, labels, seeds, Baseline(), SAMPLING, images=False).tokens)
    figures = []
    for which in ("target", "draft"):
        one_by_one = DecodeState(pair, labels, seeds, SAMPLING).stepper(which)
        in_spans = DecodeState(pair, labels, seeds, SAMPLING).stepper(which)
        for first in range(0, scales, gamma + 1):
            last = min(first + gamma + 1, scales)
            logits = in_spans.logits(images, _inputs_of(pair, inputs, first, last), first, last, wanted_from=first)
            for scale, part in zip(range(first, last), pyramid.split(logits, first, last), strict=True):
                alone = _inputs_of(pair, inputs, scale, scale + 1)
                wanted = one_by_one.logits(images, alone, scale, scale + 1, wanted_from=scale)
                figures.append(relative_error(part, wanted))
    meaning = f"logits of passes over {gamma + 1} scales, cut by scale, against one pass a scale; both models"
    return judged("split_logits_by_stage", _largest(figures), ROUNDING[precision(pair.target)], meaning)


def guidance_branches(pair: ModelPair, B: int, gamma: int) -> CheckResult:
    labels, seeds = batch(pair, B)
    pyramid, scales, target = pair.pyramid, len(pair.pyramid), pair.target
    inputs = pair.tokenizer.var_inputs(decode(pair, labels, seeds, Baseline(), SAMPLING, images=False).tokens)
    last = min(gamma + 1, scales)
    inputs = _inputs_of(pair, inputs, 0, last)
    stepper = DecodeState(pair, labels, seeds, SAMPLING).stepper("target")
    problems = []
    start = stepper.workspace.conditioning.start
    if start.shape[0] != 2 * B or (start[:B] == start[B:]).flatten(1).all(1).any():
        problems.append("the first input is the same for the class and the null class")
    guided = stepper.logits(range(B), inputs, 0, last, wanted_from=0)
    null = torch.full_like(labels, pair.num_classes)
    of_class, of_null = (target.forward_span(target.condition(of), inputs, 0, last) for of in (labels, null))
    scale = pyramid.scale_of_position(0, last, pair.device)[:, None].to(guided.dtype)
    t = SAMPLING.cfg * scale / max(1, scales - 1)
    figure = relative_error(guided, (1 + t) * of_class - t * of_null)
    meaning = (
        "guided logits against (1 + t) class - t null of separate passes; the branches differ from the first input on"
    )
    return judged("guidance_branches", figure, ROUNDING[precision(target)], meaning, problems)


def block_causal_mask(pair: ModelPair, B: int, gamma: int) -> CheckResult:
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
    inputs = pair.tokenizer.var_inputs(decode(pair, labels, seeds, Baseline(), SAMPLING, images=False).tokens)
    inputs, n_0 = _inputs_of(pair, inputs, 0, last), pyramid.tokens[0]
    conditioning = target.condition(labels)
    logits = target.forward_span(conditioning, inputs, 0, last)
    leaks = []
    for scale in range(1, last):
        here = pyramid.span(scale, scale + 1)
        for position in (here.start, here.stop - 1):
            changed = inputs.clone()
            changed[:, position - n_0] += inputs.std()
            moved = target.forward_span(conditioning, changed, 0, last)
            leaks.append(relative_error(moved[:, : here.start], logits[:, : here.start]))
            if (moved[:, here] == logits[:, here]).all(-1).any():
                problems.append(f"positions of scale {scale} do not see a token of their own scale")
    # below the rounding of reduced precision: both passes take the same kernels on the same shapes
    limit = min(1e-6, ROUNDING[precision(target)])
    meaning = "change of earlier scales' logits when a later scale's input changes; a scale sees all of itself"
    return judged("block_causal_mask", _largest(leaks), limit, meaning, dict.fromkeys(problems))


def _inputs_of(pair: ModelPair, inputs: Tensor, first: int, last: int) -> Tensor:
    """The part of `VQVAE.var_inputs` that belongs to the scales ``first`` <= k < ``last``."""
    offsets, n_0 = pair.pyramid.offsets, pair.pyramid.tokens[0]
    return inputs[:, offsets[max(first, 1)] - n_0 : offsets[max(last, 1)] - n_0]


def _largest(figures: list[float]) -> float:
    """The maximum, or NaN if there is one among them; 0 for none."""
    return torch.tensor([0.0, *figures], dtype=torch.float64).max().item()
