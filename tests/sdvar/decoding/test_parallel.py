"""Several scales in one pass from one f-hat."""

import pytest
import torch

import sdvar
from sdvar.decoding import DecodeState
from sdvar.decoding.timing import Clock
from tests.random_pairs import close_pair, same_tokens

PYRAMID = (1, 2, 2, 3, 4)
LABELS, SEEDS = [0, 3, 7], [1, 2, 3]


@pytest.fixture(scope="module")
def pair():
    return close_pair(PYRAMID)


def decoded(pair, strategy, sampling=None, **options):
    return sdvar.decode(pair, LABELS, SEEDS, strategy, sampling, **options)


@pytest.mark.parametrize("spans", [(1, 1, 1, 1, 1), (1,), (2, 1)])
@pytest.mark.parametrize("sampling", [sdvar.Sampling(), sdvar.Sampling(more_smooth=True)], ids=["tokens", "smooth"])
def test_spans_of_one_scale_are_the_baseline(pair, spans, sampling):
    ours, baseline = (decoded(pair, strategy, sampling) for strategy in (sdvar.Parallel(spans), sdvar.Baseline()))
    assert same_tokens(ours, baseline) and torch.equal(ours.images, baseline.images)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ((1, 2, 2), [(1, 3), (3, 5)]),
        ((2, 3), [(1, 2), (2, 5)]),
        ((1, 1, 3), [(1, 2), (2, 5)]),
        ((5,), [(1, 5)]),
        ((1, 3), [(1, 4), (4, 5)]),  # repeated, as far as the pyramid goes
    ],
)
def test_a_span_is_one_pass_of_the_target(pair, spans, expected):
    clock = Clock("cpu")
    stats = decoded(pair, sdvar.Parallel(spans), clock=clock).stats
    works = [s.work for s in clock.stretches() if s.work is not None and s.work.first < s.work.last]
    assert [(work.model, work.first, work.last) for work in works] == [("target", *span) for span in expected]
    assert stats.target_calls.tolist() == [len(expected)] * 3 and stats.draft_calls.tolist() == [0] * 3
    assert stats.target_tokens.tolist() == [pair.pyramid.span_tokens(1, 5)] * 3


def test_tokens_follow_from_the_f_hat_before_the_span(pair):
    """By the model itself: scales 2 and 3 are read from what the scales 0 and 1 add up to."""
    tokens = decoded(pair, sdvar.Parallel((1, 1, 2, 1)), sdvar.Sampling(0.0)).tokens
    assert same_tokens_up_to(2, tokens, decoded(pair, sdvar.Baseline(), sdvar.Sampling(0.0)).tokens)
    quantizer, labels = pair.tokenizer.quantize, torch.tensor(LABELS)
    f_hat = quantizer.f_hats(tokens)[1]
    inputs = torch.cat(
        [pair.tokenizer.var_inputs(tokens)[:, : pair.pyramid.tokens[1]]]
        + [quantizer.next_input(f_hat, k) for k in (2, 3)],
        dim=1,
    )
    with torch.no_grad():
        logits = pair.target.forward_span(pair.target.condition(labels), inputs, 0, 4)
    state = DecodeState(pair, labels, torch.tensor(SEEDS), sdvar.Sampling(0.0))
    for k, part in enumerate(pair.pyramid.split(logits, 0, 4)):
        assert torch.equal((part + state.gumbel(range(3), k, part)).argmax(-1), tokens[k])


def same_tokens_up_to(scales, ours, theirs):
    equal = [torch.equal(a, b) for a, b in zip(ours, theirs)]
    return all(equal[:scales]) and not all(equal)


def test_an_image_does_not_depend_on_its_batch(pair):
    together = decoded(pair, sdvar.Parallel((1, 2, 2)), sdvar.Sampling(cfg_until=3))
    alone = sdvar.decode(pair, LABELS[1:2], SEEDS[1:2], sdvar.Parallel((1, 2, 2)), sdvar.Sampling(cfg_until=3))
    assert all(torch.equal(a[0], t[1]) for a, t in zip(alone.tokens, together.tokens))


def test_what_it_promises():
    assert sdvar.Parallel([1, 1]).exact and sdvar.Parallel([1, 1]) == sdvar.Parallel((1, 1))
    assert not sdvar.Parallel((1, 2)).lossless


@pytest.mark.parametrize(
    ("spans", "error", "message"),
    [
        ((), ValueError, "spans: expected ints >= 1 such as"),
        ("12", TypeError, "spans: expected ints >= 1 such as"),
        (2, TypeError, "spans: expected ints >= 1 such as"),
        ((1, 0), ValueError, "spans: expected an int >= 1, got 0"),
        ((1, 1.5), TypeError, "spans: expected an int >= 1, got 1.5"),
    ],
)
def test_spans_that_are_none(spans, error, message):
    with pytest.raises(error, match=message):
        sdvar.Parallel(spans)


def test_spans_of_more_scales_than_there_are(pair):
    with pytest.raises(ValueError, match=r"spans: expected spans of 5 scales in all, or fewer .*, which are 6"):
        decoded(pair, sdvar.Parallel((1, 2, 3)))
