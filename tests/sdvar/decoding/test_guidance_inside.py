"""A draft with guidance inside runs without a null branch wherever it decodes, and speculation stays exact."""

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sdvar
from sdvar import guidance
from sdvar.decoding import DecodeState, guidance_inside
from sdvar.decoding.strategies.rounds import Rounds
from sdvar.decoding.timing import Clock
from sdvar.planning.probe import measure_costs
from sdvar.selftest.cache_error import cache_error
from tests.enumeration import Tiny, chi_square, exact_probabilities, sampled_counts, tiny_pair
from tests.fake_models import fake_pair
from tests.random_pairs import close_pair, same_tokens

PYRAMID = (1, 2, 2, 3, 4)
LABELS, SEEDS = [0, 3, 7], [1, 2, 3]
SAMPLING = sdvar.Sampling(cfg=2.0, top_k=12, temperature=1.2)
INSIDE = guidance.guidance_of(SAMPLING)


@contextlib.contextmanager
def inside(model, value=INSIDE):
    """A model with guidance inside for a while, whatever its weights."""
    model.guidance_inside = value
    try:
        yield
    finally:
        model.guidance_inside = None


def distilled_pair(dtype=torch.float64):
    pair = close_pair(PYRAMID, dtype)
    pair.draft.guidance_inside = INSIDE
    return pair


@pytest.mark.parametrize(
    "strategy",
    [
        sdvar.Speculative(2, sdvar.KL(1e9)),
        sdvar.Speculative(2, sdvar.Rejection(), verify_scales=3),
        sdvar.Handoff(3),
        sdvar.Handoff(2, first="target"),
        sdvar.Baseline("draft"),
    ],
    ids=repr,
)
def test_passes_of_the_draft_have_one_branch_and_the_targets_two(strategy):
    clock = Clock("cpu")
    sdvar.decode(distilled_pair(), [3], [2], strategy, SAMPLING, images=False, clock=clock)
    rows = {"draft": set(), "target": set()}
    for stretch in clock.stretches():
        if stretch.work is not None:
            rows[stretch.part].add(stretch.work.rows)
    assert rows["draft"] == {1} and rows["target"] <= {2}


def test_its_distribution_is_that_of_its_class_branch_at_the_temperature():
    pair = distilled_pair()
    state = DecodeState(pair, torch.tensor(LABELS), torch.tensor(SEEDS), SAMPLING)
    tokens = sdvar.decode(pair, LABELS, SEEDS, sdvar.Baseline(), SAMPLING, images=False).tokens
    inputs = pair.tokenizer.var_inputs(tokens)
    with torch.no_grad():
        logits = torch.cat(state.stepper("draft").all_logits(inputs), dim=1)
        torch.testing.assert_close(logits, pair.draft(torch.tensor(LABELS), inputs) / 1.2, rtol=0, atol=1e-10)
    assert pair.draft.prefixes.computed == len(LABELS)  # and not of the null class


STRATEGIES = st.one_of(
    st.builds(sdvar.Speculative, st.integers(1, 4), redraft=st.sampled_from(["draft", "target"])),
    st.builds(sdvar.Speculative, st.sampled_from([sdvar.Adaptive(1, 1, 3), sdvar.TokenBudget(9), sdvar.Spans((3, 2))])),
)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    strategy=STRATEGIES,
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    batch=st.integers(1, 4),
    cfg=st.sampled_from([2.0, 0.0, 5.0]),  # also where the decode's is not the draft's
)
def test_coupled_equals_baseline_to_the_bit(strategy, dtype, batch, cfg):
    pair, sampling = distilled_pair(dtype), sdvar.Sampling(cfg, top_k=12)
    given_batch = list(range(batch)), [71 * i for i in range(batch)]
    baseline = sdvar.decode(pair, *given_batch, sdvar.Baseline(), sampling, images=False)
    assert same_tokens(sdvar.decode(pair, *given_batch, strategy, sampling, images=False), baseline)


@pytest.mark.parametrize("gamma", [1, pytest.param(2, marks=pytest.mark.proof)])
def test_rejection_keeps_the_targets_distribution(gamma):
    """Of all outcomes of a tiny pyramid, by chi-square."""
    tiny, sampling = Tiny((1, 1, 2), 3, label=4), sdvar.Sampling(cfg=1.5)
    with inside(tiny_pair(tiny, torch.float32).draft):
        counts = sampled_counts(tiny, sampling, sdvar.Speculative(gamma, sdvar.Rejection()))
    p, cells = chi_square(counts, exact_probabilities(tiny, sampling))
    assert cells > 200 and p > 1e-4


def test_a_draft_that_is_right_is_accepted_and_its_null_class_never_asked():
    pair = fake_pair(PYRAMID, [".....", "..x.."])
    with inside(pair.draft):
        stats = sdvar.decode(pair, [0, 1], [0, 1], sdvar.Speculative(4), sdvar.Sampling(1.5), images=False).stats
    assert stats.target_calls.tolist() == [1, 2] and set(pair.draft.passes) == {0, 1}
    assert pair.num_classes in pair.target.passes


def test_caches_after_every_round(monkeypatch):
    original, errors = Rounds._round, []

    def checked(self, *arguments):
        original(self, *arguments)
        errors.append(cache_error(self.state))

    monkeypatch.setattr(Rounds, "_round", checked)
    sdvar.decode(distilled_pair(), LABELS, SEEDS, sdvar.Speculative(2), SAMPLING, images=False)
    assert len(errors) > 1 and max(errors) < 1e-10


def test_the_cost_table_knows_whose_passes_have_one_branch(monkeypatch):
    seen = {}
    monkeypatch.setattr("sdvar.planning.probe.cost_table", lambda *_: seen.update(_[-1]))
    measure_costs(distilled_pair(), SAMPLING, 1, 1e-9)
    assert seen == {"draft": 0, "target": 5}


def test_it_is_no_target():
    pair = distilled_pair()
    with pytest.raises(
        ValueError, match=r"target: expected a model .*, got one with guidance inside for cfg 2; give it"
    ):
        sdvar.ModelPair(pair.draft, pair.draft, pair.tokenizer)
    assert "guidance inside for cfg 2)" in repr(pair)


@pytest.mark.parametrize(
    ("strategy", "cfg", "words"),
    [
        (sdvar.Speculative(2), 2.0, None),
        (sdvar.Handoff(2), [2.0] * 5, None),
        (sdvar.Baseline(), 1.0, None),  # it runs no draft
        (
            sdvar.Speculative(2),
            1.0,
            "for cfg 2, and decodes for cfg 1: it agrees less, and the images stay the target's",
        ),
        (sdvar.Handoff(2, "target"), 0, "for cfg 2, and decodes for cfg 0: its scales have its own guidance"),
    ],
)
def test_another_guidance_than_it_was_made_for_is_said(strategy, cfg, words):
    text = guidance_inside.mismatch(strategy, sdvar.Sampling(cfg), distilled_pair())
    assert text == (words and f"the draft has guidance inside {words}")


def test_what_is_stored_of_it_comes_back():
    for one in (INSIDE, sdvar.Sampling([1.0, 2.0, 0.5, 0.0, 0.0]), sdvar.Sampling(1.5, cfg_until=3)):
        assert guidance.guidance_from(guidance.plain(one)) == one
    assert guidance.words(sdvar.Sampling((1.0, 2.5), cfg_until=1)) == "cfg 1,2.5 until scale 1"
    for wrong in ("", "{", "7", "[]", '{"cfg": "a", "cfg_until": null}', {"cfg": 1.5}, '{"cfg": 1, "cfg_until": 0}'):
        with pytest.raises(ValueError, match="guidance inside: expected cfg and cfg_until, got"):
            guidance.guidance_from(wrong)
