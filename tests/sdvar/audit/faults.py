"""Faults that a speculative decoder may have, planted into one of a pair; the images it takes to see them.

`python -m tests.sdvar.audit.faults 800` measures the table of docs/evaluation.md with the bundled pair, and
`python -m tests.sdvar.audit.faults 12800 enumerated` with that of an enumerated pyramid, whose images cost next to
nothing.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from unittest.mock import patch

import torch

import sdvar
from sdvar import noise
from sdvar.audit import Scores, score
from sdvar.decoding.strategies.rounds import Rounds
from tests.enumeration import Tiny, tiny_pair
from tests.faulty_rules import DrawsFromTheTarget

SAMPLING = sdvar.Sampling(cfg=1.5, top_k=60)  # of the bundled pair's runs
LEVEL = 1e-3  # of the tests together
STEP = 25  # images decoded together
REJECTION = sdvar.Speculative(2, sdvar.Rejection())
TINY = Tiny((1, 2, 2), 4, label=0)
PLAIN = sdvar.Sampling(cfg=1.5)  # of the enumerated pyramid's


@dataclasses.dataclass(frozen=True)
class Fault:
    """A decoder with a fault, and the target that it claims to draw from.

    Attributes:
        strategy: that decodes.
        sampling: that it decodes with.
        claimed: the sampling that it is audited with.
        change: of the models that decode.
        claimed_change: of the models that audit.
        patched: what is replaced while it decodes.
        enumerated: whether the pair is that of the enumerated pyramid, not the bundled one.
    """

    strategy: sdvar.Strategy = REJECTION
    sampling: sdvar.Sampling = SAMPLING
    claimed: sdvar.Sampling = SAMPLING
    change: Callable[[sdvar.ModelPair], None] | None = None
    claimed_change: Callable[[sdvar.ModelPair], None] | None = None
    patched: Callable[[], AbstractContextManager] = nullcontext
    enumerated: bool = False


class LateGuidance(sdvar.Sampling):
    """Each scale has the guidance of the one before."""

    def guidance(self, scale, scales):
        return super().guidance(max(scale - 1, 0), scales)


class DropsTies(sdvar.Sampling):
    """Exactly k tokens, whichever of the ties with the k-th come first."""

    def filtered(self, logits):
        best = logits.topk(self.top_k, dim=-1)
        return torch.full_like(logits, -torch.inf).scatter(-1, best.indices, best.values)


def reused_noise():
    """A draft is accepted by the number that picked it."""

    def accept_noise(self):
        _, positions, vocabulary = self.target_logits.shape
        numbers = noise.uniform(self.seeds, "pick", self.scale, positions, vocabulary, self.target_logits.dtype)
        return numbers.gather(-1, self.drafted[..., None])[..., 0]

    return patch.object(sdvar.Proposal, "accept_noise", accept_noise)


def bonus_of_the_draft():
    """The scale after the drafted ones has the draft's logits."""
    verify = Rounds._verify

    def verified(self, drafted):
        logits, bonus = verify(self, drafted), drafted.scale + len(drafted)
        draft = self.state.stepper("draft")
        return [*logits[:-1], draft.run(drafted.images, drafted.inputs[-1], bonus, bonus + 1, wanted_from=bonus)]

    return patch.object(Rounds, "_verify", verified)


def biased(pair):
    """One token is e^0.5 times as likely; of the bundled pair the one that is picked most often, 7 % of all."""
    bias = pair.target.head.bias.data
    bias[min(120, len(bias) - 1)] += 0.5


def hot_draft(pair):
    """The draft picks at temperature 2, so that many of its tokens are rejected."""
    for values in pair.draft.head.parameters():
        values.data /= 2


def in_equal_pairs(pair):
    """Tokens are equally likely in pairs, so that there are ties."""
    for model in (pair.draft, pair.target):
        for values in model.head.parameters():
            values.data[1::2] = values.data[::2]


K = 6
TIED = sdvar.Sampling(1.5, 3)  # keeps four tokens where they come in equal pairs
ONE = sdvar.Speculative(1, sdvar.Rejection())  # a bonus scale after each drafted one that is accepted
FAULTS = {
    "rejected tokens drawn from the target, not from the residual": Fault(
        sdvar.Speculative(2, DrawsFromTheTarget()), change=hot_draft
    ),
    "acceptance by the noise that picked the draft": Fault(patched=reused_noise),
    "guidance one scale late": Fault(sampling=LateGuidance(1.5, 60)),
    "temperature 0.9 forgotten at every scale": Fault(claimed=sdvar.Sampling(1.5, 60, temperature=0.9)),
    "temperature 0.9 forgotten at the last scale": Fault(
        sampling=sdvar.Sampling(1.5, 60, temperature=(*[0.9] * (K - 1), 1.0)),
        claimed=sdvar.Sampling(1.5, 60, temperature=0.9),
    ),
    "top-k drops ties (all tokens in equal pairs)": Fault(
        sampling=DropsTies(1.5, 3), claimed=TIED, change=in_equal_pairs, claimed_change=in_equal_pairs
    ),
    "top-k 59 in place of 60": Fault(sampling=sdvar.Sampling(1.5, 59)),
    "logits of rejected drafts kept (stale)": Fault(sdvar.Speculative(2, sdvar.Match(0.0, "target"))),
    "bonus scale from the draft": Fault(ONE, change=hot_draft, patched=bonus_of_the_draft),
    "one token favoured by 0.5 nats": Fault(change=biased),
    "Match(0.5), lossy by design": Fault(sdvar.Speculative(2, sdvar.Match(0.5))),
    "Handoff(3), lossy by design": Fault(sdvar.Handoff(3)),
}
WITHOUT_ROOM = {  # three of them in the setting of the others, where they are rare
    "rejected tokens drawn from the target, with the draft as it is": Fault(sdvar.Speculative(2, DrawsFromTheTarget())),
    "top-k drops ties, of 60 tokens": Fault(
        sampling=DropsTies(1.5, 59),
        claimed=sdvar.Sampling(1.5, 59),
        change=in_equal_pairs,
        claimed_change=in_equal_pairs,
    ),
    "bonus scale from the draft, gamma 2": Fault(patched=bonus_of_the_draft),
}
_tiny = functools.partial(Fault, sampling=PLAIN, claimed=PLAIN, enumerated=True)
ENUMERATED = {
    "rejected tokens drawn from the target, not from the residual": _tiny(sdvar.Speculative(2, DrawsFromTheTarget())),
    "acceptance by the noise that picked the draft": _tiny(patched=reused_noise),
    "guidance one scale late": _tiny(sampling=LateGuidance(1.5)),
    "temperature 0.9 forgotten at every scale": _tiny(claimed=sdvar.Sampling(1.5, temperature=0.9)),
    "top-k drops ties (all tokens in equal pairs)": _tiny(
        sampling=DropsTies(1.5, 3), claimed=sdvar.Sampling(1.5, 3), change=in_equal_pairs, claimed_change=in_equal_pairs
    ),
    "logits of rejected drafts kept (stale)": _tiny(sdvar.Speculative(2, sdvar.Match(0.0, "target"))),
    "bonus scale from the draft": _tiny(patched=bonus_of_the_draft),
    "one token favoured by 0.5 nats": _tiny(change=biased),
}
SOUND = {
    "none: Rejection": Fault(),
    "none: Rejection, draft at temperature 2": Fault(change=hot_draft),
    "none: Rejection, gamma 1, draft at temperature 2": Fault(ONE, change=hot_draft),
    "none: Rejection, all tokens in equal pairs, top-k 3": Fault(
        sampling=TIED, claimed=TIED, change=in_equal_pairs, claimed_change=in_equal_pairs
    ),
    "none: Baseline": Fault(sdvar.Baseline()),
}


@cache
def changed_pair(change, enumerated: bool) -> sdvar.ModelPair:
    pair = tiny_pair(TINY, torch.float32) if enumerated else sdvar.load_pair("tiny")
    if change is not None:
        pair = sdvar.ModelPair(copy.deepcopy(pair.draft), copy.deepcopy(pair.target), pair.tokenizer)
        change(pair)
    return pair


def scored(fault: Fault, images: range) -> Scores:
    """The scores of some images of a faulty decoder; of the bundled pair image i has class i mod 10."""
    labels = [TINY.label if fault.enumerated else image % 10 for image in images]
    with fault.patched():
        pair = changed_pair(fault.change, fault.enumerated)
        tokens = sdvar.decode(pair, labels, images, fault.strategy, fault.sampling, images=False).tokens
    return score(changed_pair(fault.claimed_change, fault.enumerated), labels, images, tokens, fault.claimed)


def images_needed(fault: Fault, most: int) -> tuple[int | None, Scores]:
    """The images (25, 50, 100, …) from which the tests together flag the fault; None if ``most`` do not suffice."""
    parts: list[Scores] = []
    done, count = 0, STEP
    while True:
        step = count - done if fault.enumerated else STEP  # such small images cost nothing
        parts += [scored(fault, range(at, at + step)) for at in range(done, count, step)]
        done = count
        scores = Scores.joined(parts)
        if scores.smallest_p_value < LEVEL or count >= most:
            return (count if scores.smallest_p_value < LEVEL else None), scores
        count *= 2


if __name__ == "__main__":
    torch.set_num_threads(1)
    enumerated = "enumerated" in sys.argv
    for name, fault in (ENUMERATED if enumerated else FAULTS | WITHOUT_ROOM | SOUND).items():
        if not enumerated and len(sys.argv) > 2 and sys.argv[2] not in name:
            continue
        needed, found = images_needed(fault, int(sys.argv[1]))
        excess, interval = found.excess_per_token
        print(
            f"| {name} | {needed} | z {found.z:.1f} | z by scale {min(map(abs, found.z_per_scale)):.1f} to "
            f"{max(found.z_per_scale, key=abs):.1f} | ranks {min(found.rank_p_values):.1e} | {excess:.4f} nats "
            f"({interval[0]:.4f} to {interval[1]:.4f}) | outside {int(found.outside.sum())}",
            flush=True,
        )
