"""Acceptance rules with a planted fault, for the tests that have to notice it."""

import dataclasses

import torch

import sdvar


@dataclasses.dataclass(frozen=True)
class DrawsFromTheTarget(sdvar.Acceptance):
    """Rejection, but what is rejected is drawn from p, not from max(p - q, 0)."""

    needs_draft_distribution = True

    def judge(self, proposal):
        verdict = sdvar.Rejection().judge(proposal)
        drawn = (proposal.p.log() + proposal.residual_noise()).argmax(-1)
        return verdict._replace(tokens=torch.where(verdict.agreed, proposal.drafted, drawn))
