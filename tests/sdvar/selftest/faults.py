"""Mistakes of decoding: each breaks one thing, by way of monkeypatch."""

import torch
import torch.nn.functional as F

import sdvar
from sdvar.decoding.state import TokenMaps
from sdvar.decoding.stepper import Stepper
from sdvar.decoding.strategies.rounds import Drafted, Rounds
from sdvar.models import transformer
from sdvar.models.running.workspace import selected


def triangular_mask(monkeypatch):
    def mask(pyramid, first, last, visible_from, device):
        queries, keys = pyramid.span_tokens(first, last), pyramid.span_tokens(visible_from, last)
        return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)

    monkeypatch.setattr("sdvar.pyramid._block_causal_mask", mask)


def keys_seen(monkeypatch, end):
    """In a pass over several scales: ``end`` makes the number of keys from the right one and from that of all."""
    block_causal = transformer.block_causal

    def broken(pyramid, first, last, visible_from, device):
        right = block_causal(pyramid, first, last, visible_from, device)
        blocks = (
            right.blocks if last - first == 1 else [(a, b, end(n, right.blocks[-1][2])) for a, b, n in right.blocks]
        )
        return right._replace(blocks=blocks)

    monkeypatch.setattr(transformer, "block_causal", broken)


def last_token_of_a_scale_hidden(monkeypatch):
    keys_seen(monkeypatch, lambda right, everything: max(1, right - 1))


def later_scales_seen(monkeypatch):
    keys_seen(monkeypatch, lambda right, everything: everything)


def visibility_that_the_model_ignores(monkeypatch):
    monkeypatch.setattr(
        "sdvar.models.blocks.attend",
        lambda q, k, v, visibility, scale, kernel: F.scaled_dot_product_attention(q, k, v, scale=scale),
    )


def products_by_other_kernels(monkeypatch):
    """As a library does: the order of additions follows the number of rows."""

    def product(x, weight, bias=None, gelu=False, copy=None):
        flipped = x.numel() // x.shape[-1] % 2
        y = F.linear(x.flip(-1), weight.flip(-1), bias) if flipped else F.linear(x, weight, bias)
        return F.gelu(y, approximate="tanh") if gelu else y

    monkeypatch.setattr("sdvar.models.layers.linear.product", product)


def truncation_one_scale_late(monkeypatch):
    truncate = Stepper.truncate
    monkeypatch.setattr(Stepper, "truncate", lambda self, images, scale: truncate(self, images, scale + 1))


def no_truncation(monkeypatch):
    monkeypatch.setattr(Stepper, "truncate", lambda self, images, scale: None)


def truncation_after_a_rejection_only(monkeypatch):
    """Silent: a scale accepted with replaced tokens leaves keys that were computed from the drafted ones."""
    commit = Rounds._commit

    def forgetful(self, *judged):
        before = [(image.draft.cached, image.target.cached) for image in self.progress]
        accepted, rejected = commit(self, *judged)
        for i in accepted:
            self.progress[i].draft.cached, self.progress[i].target.cached = before[i]
        return accepted, rejected

    monkeypatch.setattr(Rounds, "_commit", forgetful)


def f_hat_updated_twice(monkeypatch):
    commit = TokenMaps.commit

    def twice(self, images, scale, tokens, code=None):
        commit(self, images, scale, tokens, code)
        self.f_hat[images] += self.quantizer.contribution(tokens, scale)

    monkeypatch.setattr(TokenMaps, "commit", twice)


def null_branch_copied(monkeypatch):
    init = Stepper.__init__

    def copied(self, *args):
        init(self, *args)
        rows = torch.arange(len(self.progress)).repeat(2)
        self.workspace.conditioning = selected(self.workspace.conditioning, rows)

    monkeypatch.setattr(Stepper, "__init__", copied)


def guidance_of_the_wrong_sign(monkeypatch):
    monkeypatch.setattr(sdvar.Sampling, "guidance", lambda self, scale, scales: -self.cfg * scale / (scales - 1))


def draft_left_out_of_the_query(monkeypatch):
    add = Drafted.add

    def stale(self, tokens):
        before = self.f_hat
        add(self, tokens)
        self.inputs[-1] = self.quantizer.next_input(before, self.scale + len(self.tokens))

    monkeypatch.setattr(Drafted, "add", stale)


def start_token_besides_the_first_scale(monkeypatch):
    condition = sdvar.VAR.condition

    def doubled(self, labels):
        conditioning = condition(self, labels)
        return conditioning._replace(start=conditioning.start.repeat(1, 2, 1))

    monkeypatch.setattr(sdvar.VAR, "condition", doubled)


def logits_split_one_position_late(monkeypatch):
    split = sdvar.ScalePyramid.split
    monkeypatch.setattr(
        sdvar.ScalePyramid, "split", lambda self, x, *span, dim=1: split(self, x.roll(-1, dim), *span, dim=dim)
    )


def draft_accepted_unseen(monkeypatch):
    def judge(self, proposal):
        everything = torch.ones_like(proposal.drafted, dtype=torch.bool)
        return sdvar.Verdict(proposal.drafted, everything.all(1), everything)

    monkeypatch.setattr(sdvar.Coupled, "judge", judge)


def nothing_accepted(monkeypatch):
    judge = sdvar.Coupled.judge

    def refuse(self, proposal):
        verdict = judge(self, proposal)
        return verdict._replace(accepted=torch.zeros_like(verdict.accepted))

    monkeypatch.setattr(sdvar.Coupled, "judge", refuse)


def draft_with_its_own_noise(monkeypatch):
    uniform, calls = sdvar.noise._uniform, iter(range(10**6))

    def other_noise(seeds, *args):
        return uniform(seeds + next(calls), *args)

    monkeypatch.setattr("sdvar.noise._uniform", other_noise)


def pixels(change):
    def broken(monkeypatch):
        decode = sdvar.VQVAE.decode_f_hat
        monkeypatch.setattr(sdvar.VQVAE, "decode_f_hat", lambda self, f_hat: change(decode(self, f_hat)))

    return broken
