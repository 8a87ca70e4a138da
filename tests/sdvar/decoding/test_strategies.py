"""Hand-off, Match and the combined query, against what is written out by hand; and what is refused."""

import pytest
import torch

import sdvar
from sdvar.decoding import DecodeState
from tests.random_pairs import close_pair, random_pair, same_tokens

LABELS, SEEDS = [0, 3, 10], [7, 8, 9]


@pytest.fixture(scope="module")
def pair():
    return close_pair()


def run(pair, strategy, **options):
    return sdvar.decode(pair, LABELS, SEEDS, strategy, images=False, **options)


def test_handoff_ends(pair):
    draft, target = run(pair, sdvar.Baseline("draft")), run(pair, sdvar.Baseline())
    assert not same_tokens(draft, target)
    assert same_tokens(run(pair, sdvar.Handoff(4, "draft")), draft)
    assert same_tokens(run(pair, sdvar.Handoff(0, "draft")), target)
    assert same_tokens(run(pair, sdvar.Handoff(4, "target")), target)
    assert same_tokens(run(pair, sdvar.Handoff(0, "target")), draft)


def test_handoff_counts_and_parts(pair):
    draft, both = run(pair, sdvar.Baseline("draft")), run(pair, sdvar.Handoff(2))
    assert all(torch.equal(a, b) for a, b in zip(draft.tokens[:2], both.tokens[:2]))
    assert both.stats.draft_calls.tolist() == [1] * 3  # scale 0 takes no pass
    assert both.stats.target_calls.tolist() == [2] * 3  # the first of them reads the prefix too
    assert both.stats.target_tokens.tolist() == [29] * 3
    back = run(pair, sdvar.Handoff(3, "target")).stats
    assert (back.target_calls[0], back.draft_calls[0], back.draft_tokens[0]) == (2, 1, 29)


def test_handoff_of_equal_models_is_the_baseline():
    pair = random_pair(same=True)
    assert same_tokens(run(pair, sdvar.Handoff(2)), run(pair, sdvar.Baseline()))
    assert not same_tokens(run(pair, sdvar.Handoff(2, prefix="none")), run(pair, sdvar.Baseline()))


def test_handoff_without_prefix_sees_nothing_of_it(pair):
    """The second model's first pass holds its own scale only."""
    blind = run(pair, sdvar.Handoff(2, prefix="none")).stats
    assert blind.target_tokens.tolist() == [30 - 5] * 3


def test_match_at_the_ends(pair):
    assert same_tokens(run(pair, sdvar.Speculative(2, sdvar.Match(1.0))), run(pair, sdvar.Baseline()))
    everything = run(pair, sdvar.Speculative(3, sdvar.Match(0.0)))
    assert everything.stats.target_calls.tolist() == [1] * 3
    drafted = run(pair, sdvar.Handoff(1, "target")).tokens[:3]  # scale 0 is the target's in both
    assert all(torch.equal(a, b) for a, b in zip(everything.tokens[:3], drafted))


def test_match_with_the_targets_picks_feeds_scales_again():
    """Scale 1 is replaced but accepted; the last round then feeds scale 2 again."""
    pair = random_pair()
    kept, fed_again = (
        run(pair, sdvar.Speculative(1, sdvar.Match(0.0, keep))).stats.target_tokens for keep in ("draft", "target")
    )
    assert kept.tolist() == [29] * 3
    assert fed_again.tolist() == [29 + 9] * 3


def test_draft_tail(pair):
    """Scales from N on are the draft's, which has read the accepted prefix."""
    draft = run(pair, sdvar.Baseline("draft"))
    assert same_tokens(run(pair, sdvar.Speculative(2, verify_scales=0)), draft)
    assert same_tokens(run(pair, sdvar.Speculative(2, verify_scales=4)), run(pair, sdvar.Baseline()))
    for n in (1, 2, 3):
        tail = run(pair, sdvar.Speculative(2, verify_scales=n))
        assert same_tokens(tail, run(pair, sdvar.Handoff(n, "target")))
        assert (tail.stats.target_calls <= n - 1).all()
        assert (tail.stats.target_tokens >= pair.pyramid.span_tokens(1, n)).all()
        assert not sdvar.Speculative(2, verify_scales=n).lossless
    with pytest.raises(ValueError, match="verify_scales: expected 0 to 4"):
        run(pair, sdvar.Speculative(2, verify_scales=5))


def test_draft_tail_of_equal_models_needs_fewer_calls():
    stats = run(random_pair(same=True), sdvar.Speculative(2, verify_scales=3)).stats
    assert stats.target_calls.tolist() == [1] * 3  # a drafted scale and the bonus
    assert stats.target_tokens.tolist() == [13] * 3
    assert stats.draft_calls.tolist() == [2] * 3  # a draft, then scales 2 and 3 in one pass


def test_redraft_from_the_targets_picks(pair):
    """The draft model runs less, and what it saves is not paid for in exactness."""
    baseline, batch = run(pair, sdvar.Baseline()), ([0, 1, 2, 3, 4] * 4, list(range(20)))
    assert same_tokens(run(pair, sdvar.Speculative(3, redraft="target")), baseline)
    again, reused = (
        sdvar.decode(pair, *batch, sdvar.Speculative(3, redraft=where), images=False).stats
        for where in ("draft", "target")
    )
    assert reused.draft_calls.sum() < again.draft_calls.sum()
    assert (reused.draft_calls >= 2).all()  # the first round
    with pytest.raises(ValueError, match="redraft: expected 'draft' with Rejection"):
        sdvar.Speculative(3, sdvar.Rejection(), redraft="target")


def test_more_smooth(pair):
    smooth = sdvar.Sampling(more_smooth=True)
    plain = run(pair, sdvar.Baseline())
    images = sdvar.decode(pair, LABELS, SEEDS, sdvar.Baseline(), smooth)
    assert not torch.allclose(images.images, sdvar.decode(pair, LABELS, SEEDS, sdvar.Baseline()).images)
    assert torch.equal(images.tokens[0], plain.tokens[0])  # picked as ever; later scales see another f-hat
    alone = sdvar.decode(pair, LABELS[1:2], SEEDS[1:2], sdvar.Baseline(), smooth)  # a seed per image, not per batch
    torch.testing.assert_close(alone.images[0], images.images[1])
    other = sdvar.decode(pair, LABELS, [s + 1 for s in SEEDS], sdvar.Baseline(), smooth)
    assert not torch.allclose(other.images, images.images)
    assert sdvar.decode(pair, LABELS, SEEDS, sdvar.Handoff(2), smooth).images.isfinite().all()
    with pytest.raises(ValueError, match="more_smooth: expected False with Speculative"):
        sdvar.decode(pair, LABELS, SEEDS, sdvar.Speculative(2), smooth)


@pytest.mark.parametrize("which", ["draft", "target"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers(pair, monkeypatch, which, value):
    """The error names scale and image, and comes at once."""
    original, passes = sdvar.VAR.logits, []

    def broken(self, x, conditioning):
        logits = original(self, x, conditioning)
        if self is getattr(pair, which):
            passes.append(x.shape[1])
            if 9 in passes or x.shape[1] > 9:
                logits[2, -1, 5] = value
        return logits

    monkeypatch.setattr(sdvar.VAR, "logits", broken)
    strategy = sdvar.Baseline(which)
    with pytest.raises(ValueError, match=f"the {which} model's logits are NaN or infinite at scale 2 of image 2"):
        run(pair, strategy)
    assert passes[-2:] == [4, 9]


def test_rounds_are_logged(pair, caplog):
    with caplog.at_level("INFO", logger="sdvar.rounds"):
        stats = run(pair, sdvar.Speculative(2)).stats
    rounds = [record.getMessage() for record in caplog.records if record.getMessage().startswith("scales ")]
    assert rounds[0].startswith("scales 1-3, drafted 2 by the draft model: 3 images")
    assert len(rounds) >= int(stats.target_calls.max())


def test_combined_query_and_its_branches(pair):
    """Scale 0 gives 1 position, scales 1 and 2 give 13; the class and null branches start differently."""
    state = DecodeState(pair, torch.tensor([2]), torch.tensor([0]), sdvar.Sampling(cfg=2.0))
    with torch.no_grad():
        stepper = state.stepper("target")
        start = stepper.workspace.conditioning.start
        assert start.shape[1] == 1 and not torch.equal(start[0], start[1])
        inputs = torch.zeros(1, 13, 8, dtype=torch.float64)
        logits = stepper.logits([0], inputs, 1, 3, wanted_from=1)
    assert (stepper.first_logits.guided.shape[1], logits.shape[1]) == (1, 13)
    assert stepper.progress[0].tokens == 13


def test_guidance_by_hand(pair):
    tokens = run(pair, sdvar.Baseline()).tokens
    inputs = pair.tokenizer.var_inputs(tokens)
    labels = torch.tensor(LABELS)
    state = DecodeState(pair, labels, torch.tensor(SEEDS), sdvar.Sampling(cfg=1.5, temperature=0.8))
    with torch.no_grad():
        ours = state.stepper("target").all_logits(inputs)
        of_class, of_null = pair.target(labels, inputs), pair.target(torch.full((3,), 10), inputs)
    for k, part in enumerate(ours):
        at = pair.pyramid.span(k, k + 1)
        t = 1.5 * k / 3
        torch.testing.assert_close(part, ((1 + t) * of_class[:, at] - t * of_null[:, at]) / 0.8)


def test_works_in_inference_mode_and_out_of_it(pair):
    expected = run(pair, sdvar.Speculative(2))
    with torch.inference_mode():
        assert same_tokens(run(pair, sdvar.Speculative(2)), expected)
    with torch.no_grad():
        assert same_tokens(run(pair, sdvar.Speculative(2)), expected)


def test_bfloat16_weights_decode():
    pair = close_pair(dtype=torch.float32)
    small = {
        name: sdvar.load_var(getattr(pair, name).state_dict(), dtype=torch.bfloat16) for name in ("draft", "target")
    }
    half = sdvar.ModelPair(**small, tokenizer=pair.tokenizer)
    assert half.target.blocks[0].ffn.fc1.weight.dtype == torch.bfloat16
    assert half.target.head.weight.dtype == torch.float32
    result = sdvar.decode(half, LABELS, SEEDS, sdvar.Speculative(2))
    assert result.images.dtype == torch.float32 and result.images.isfinite().all()


def test_images_are_in_the_unit_interval(pair):
    images = sdvar.decode(pair, LABELS, SEEDS, sdvar.Baseline()).images
    assert images.shape == (3, 3, 8, 8)
    assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("arguments, error, words", [
    ({"labels": [], "seeds": []}, ValueError, "labels: expected at least one"),
    ({"labels": [0, 1], "seeds": [0]}, ValueError, "2 labels and 1 seeds"),
    ({"labels": [11], "seeds": [0]}, ValueError, "got 11"),
    ({"labels": [-1], "seeds": [0]}, ValueError, "got -1"),
    ({"labels": [0.5], "seeds": [0]}, TypeError, "labels"),
    ({"labels": [0], "seeds": [2**64]}, TypeError, "seeds"),
    ({"labels": [0], "seeds": [0], "strategy": "baseline"}, TypeError, "strategy"),
    ({"labels": [0], "seeds": [0], "sampling": 1.5}, TypeError, "sampling"),
    ({"labels": [0], "seeds": [0], "strategy": sdvar.Handoff(5)}, ValueError, "entry: expected 0 to 4"),
])  # fmt: skip
def test_bad_calls(pair, monkeypatch, arguments, error, words):
    monkeypatch.setattr(sdvar.VAR, "forward_span", lambda *a, **k: pytest.fail("a model ran"))
    with pytest.raises(error, match=words):
        sdvar.decode(pair, **{"strategy": sdvar.Baseline(), **arguments})


@pytest.mark.parametrize("make, error, words", [
    (lambda: sdvar.Speculative(0), ValueError, "gamma"), (lambda: sdvar.Speculative(1.5), TypeError, "gamma"),
    (lambda: sdvar.Speculative(2, "coupled"), TypeError, "acceptance"), (lambda: sdvar.Match(1.2), ValueError, "tau"),
    (lambda: sdvar.Match(0.5, "both"), ValueError, "keep"), (lambda: sdvar.Handoff(-1), ValueError, "entry"),
    (lambda: sdvar.Handoff(1, "both"), ValueError, "first"), (lambda: sdvar.Baseline("big"), ValueError, "model"),
    (lambda: sdvar.Speculative(2, redraft="both"), ValueError, "redraft"),
    (lambda: sdvar.Speculative(2, verify_scales=-1), ValueError, "verify_scales"),
    (lambda: sdvar.Speculative(2, sdvar.KL(0.1), "target"), ValueError, "redraft"),
    (lambda: sdvar.Handoff(1, prefix="all"), ValueError, "prefix"), (lambda: sdvar.Fixed(True), TypeError, "gamma"),
])  # fmt: skip
def test_bad_strategies(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_pair_of_models_that_do_not_belong_together(pair):
    with pytest.raises(ValueError, match="pyramid must be the same"):
        sdvar.ModelPair(random_pair((1, 2)).draft, pair.target, pair.tokenizer)
    with pytest.raises(ValueError, match="codebook_size must be the same"):
        sdvar.ModelPair(random_pair(vocabulary=16).draft.double(), pair.target, pair.tokenizer)
    with pytest.raises(TypeError, match="tokenizer"):
        sdvar.ModelPair(pair.draft, pair.target, pair.draft)
