import copy
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer

import sdvar
from lightning_modules import predictor as module
from lightning_modules.arms.arm import Arm
from lightning_modules.data.image_list import RESEED_OFFSET
from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.predictor import SDVARPredictor
from sdvar.engine import tf32_allowed
from tests.random_pairs import close_pair

BASELINE = Arm("baseline", sdvar.Baseline())
SPECULATIVE = Arm("speculative", sdvar.Speculative(gamma=2))
HANDOFF = Arm("handoff", sdvar.Handoff(entry=2))
RESEEDED = Arm("reseeded", sdvar.Baseline(), reseed=True)


def make_batch(number: int = 0, size: int = 4, wanted: int | None = None) -> dict:
    index = torch.arange(size) + number * size
    mask = torch.arange(size) < (size if wanted is None else wanted)
    return {"batch": number, "index": index, "label": index % 5, "seed": index, "mask": mask}


@pytest.fixture
def decodes(monkeypatch):
    """Strategies and seeds of every decode, in order; the decodes are real."""
    calls = []
    decode = sdvar.decode

    def spy(pair, labels, seeds, strategy, sampling, **options):
        calls.append((strategy, seeds.tolist()))
        return decode(pair, labels, seeds, strategy, sampling, **options)

    monkeypatch.setattr(module.sdvar, "decode", spy)
    return calls


def test_arms_take_turns_and_the_first_decodes_are_not_counted(pair, decodes):
    arms = [BASELINE, SPECULATIVE, HANDOFF]
    predictor = SDVARPredictor(pair, arms)
    for number in range(3):
        predictor.predict_step(make_batch(number), number)
    b, s, h = (arm.strategy for arm in arms)
    warm_up = [b, s, h]
    assert [strategy for strategy, _ in decodes] == [*warm_up, b, s, h, s, h, b, h, b, s]
    assert int(predictor.statistics[0].images) == 12


def test_a_reseeded_arm_shares_no_seed_and_is_compared_with_nothing(pair, decodes):
    decoded = SDVARPredictor(pair, [BASELINE, RESEEDED]).predict_step(make_batch(), 0)
    assert decodes[-1][1] == [seed + RESEED_OFFSET for seed in range(4)]
    assert decoded["reseeded"].seeds.tolist() == decodes[-1][1]
    assert decoded["reseeded"].agreeing_tokens is None
    assert not torch.equal(decoded["reseeded"].images, decoded["baseline"].images)


def test_a_lossless_arm_has_the_baselines_tokens_in_float64(pair):
    pair = sdvar.ModelPair(*(copy.deepcopy(m).double() for m in (pair.draft, pair.target, pair.tokenizer)))
    decoded = SDVARPredictor(pair, [BASELINE, SPECULATIVE, HANDOFF]).predict_step(make_batch(size=16), 0)
    assert decoded["speculative"].agreeing_tokens.tolist() == [30] * 16
    assert decoded["speculative"].score_gap.isnan().all()
    assert torch.equal(decoded["speculative"].images, decoded["baseline"].images)
    assert (decoded["handoff"].agreeing_tokens < 30).any() and decoded["handoff"].score_gap is None


def test_a_lossless_arm_that_is_not_shows_by_its_score_gap(pair, monkeypatch):
    decode = sdvar.decode

    def faulty(pair, labels, seeds, strategy, sampling, **options):
        return decode(pair, labels, seeds + isinstance(strategy, sdvar.Speculative), strategy, sampling, **options)

    monkeypatch.setattr(module.sdvar, "decode", faulty)
    decoded = SDVARPredictor(pair, [BASELINE, SPECULATIVE]).predict_step(make_batch(), 0)
    assert decoded["speculative"].score_gap.max() > sdvar.NEAR_TIE


def test_filling_is_not_counted_and_a_batch_of_filling_not_decoded(pair, decodes):
    predictor = SDVARPredictor(pair, [BASELINE])
    assert predictor.predict_step(make_batch(wanted=0), 0) == {} and decodes == []
    predictor.predict_step(make_batch(wanted=3), 1)
    assert int(predictor.statistics[0].images) == 3


def finished_by_the_baseline(predictor: SDVARPredictor, number: int) -> dict:
    """A batch whose baseline is there, with its tokens."""
    batch = make_batch(number)
    tokens = sdvar.decode(predictor.pair, batch["label"], batch["seed"], BASELINE.strategy, predictor.sampling).tokens
    missing = {arm.name: batch["mask"] for arm in predictor.arms if arm.name != "baseline"}
    return {**batch, "missing": missing, "baseline_tokens": torch.cat(tokens, dim=1)}


def test_a_finished_baseline_runs_for_its_time_alone_and_not_in_every_batch(pair, decodes):
    predictor = SDVARPredictor(pair, [BASELINE, HANDOFF])
    for number, timed in ((0, True), (4, True), (5, False), (10, True), (11, False)):
        batch = finished_by_the_baseline(predictor, number)
        expected = SDVARPredictor(pair, [BASELINE, HANDOFF]).predict_step(make_batch(number), number)["handoff"]
        decodes.clear()
        decoded = predictor.predict_step(batch, number)
        assert decoded.keys() == {"handoff"}
        assert (BASELINE.strategy in [strategy for strategy, _ in decodes]) == timed
        assert (decoded["handoff"].baseline_seconds is not None) == timed
        assert torch.equal(decoded["handoff"].agreeing_tokens, expected.agreeing_tokens)
    assert int(predictor.statistics[0].images) == 0


def test_a_baseline_that_comes_out_otherwise_now_is_told(pair, caplog):
    predictor = SDVARPredictor(pair, [BASELINE, HANDOFF])
    batch = finished_by_the_baseline(predictor, 0)
    predictor.predict_step(batch, 0)
    assert not caplog.records
    batch["baseline_tokens"][0, -1] += 1
    predictor.predict_step(batch, 0)
    assert "batch 0: the baseline has other tokens now" in caplog.text


def test_an_arm_with_a_sampling_of_its_own_promises_nothing(pair):
    sampling = sdvar.Sampling(temperature=[2.0, 1.0, 1.0, 1.0])
    own = Arm("own", sdvar.Speculative(gamma=2), sampling=sampling)
    batch = make_batch(size=16)
    decoded = SDVARPredictor(pair, [BASELINE, own]).predict_step(batch, 0)["own"]
    expected = sdvar.decode(pair, batch["label"], batch["seed"], own.strategy, sampling)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(decoded.tokens, expected.tokens))
    assert not own.exact and not own.lossless and decoded.score_gap is None
    assert list(own.describe()["sampling"]["temperature"]) == [2.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("inference_mode", [True, False])
def test_predicts_under_lightning_the_same_with_and_without_inference_mode(pair, inference_mode, monkeypatch):
    data = ClassLabelDataModule("0-4", images_per_class=1, batch_size=4)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=inference_mode,
    )
    decode, modes = sdvar.decode, set()

    def spy(*arguments, **options):
        modes.add((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        return decode(*arguments, **options)

    monkeypatch.setattr(module.sdvar, "decode", spy)
    batches = trainer.predict(SDVARPredictor(pair, [BASELINE, SPECULATIVE]), datamodule=data)
    assert modes == {(inference_mode, False)} and len(batches) == 2
    labels = data.table()["label"][:]
    for arm in (BASELINE, SPECULATIVE):
        for start, batch in zip((0, 4), batches):
            seeds = list(range(start, start + 4))
            expected = decode(pair, labels[start : start + 4], seeds, arm.strategy)
            ours = batch[arm.name]
            assert all(torch.equal(a, b) for a, b in zip(ours.tokens, expected.tokens, strict=True))
            assert torch.equal(ours.images, expected.images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1))


@pytest.mark.parametrize("tf32", [False, True])
def test_float32_products_are_as_asked_for_while_decoding_and_put_back_afterwards(pair, tf32, monkeypatch):
    decode, seen, backends = sdvar.decode, [], torch.backends

    def spy(*arguments, **options):
        seen.append((backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark))
        if len(seen) > 2:
            raise OSError("disk full")
        return decode(*arguments, **options)

    monkeypatch.setattr(module.sdvar, "decode", spy)
    predictor = SDVARPredictor(pair, [BASELINE], engine=sdvar.Engine(tf32=tf32))
    with tf32_allowed(not tf32):
        predictor.predict_step(make_batch(), 0)
        with pytest.raises(OSError, match="disk full"):
            predictor.predict_step(make_batch(), 0)
        assert (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32) == (not tf32, not tf32)
    assert seen == [(tf32, tf32, False)] * 3
    assert predictor.settings()["engine"]["tf32"] is tf32


def test_settings_tell_the_shape_of_the_models(pair):
    settings = SDVARPredictor(pair, [BASELINE]).settings()
    assert (settings["patch_nums"], settings["num_classes"]) == ([1, 2, 3, 4], 5)


def test_threads_are_set_when_predicting_starts(pair):
    before = torch.get_num_threads()
    try:
        SDVARPredictor(pair, [BASELINE], engine=sdvar.Engine(threads=before + 1)).on_predict_start()
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"arms": []}, "arms"),
        ({"arms": [BASELINE, BASELINE]}, "arms"),
        ({"arms": [BASELINE], "precision": "fp8"}, "precision"),
        ({"arms": [Arm("late", sdvar.Handoff(entry=9))]}, "strategy 'late': entry"),
        (
            {"arms": [Arm("x", sdvar.Baseline(), sampling=sdvar.Sampling(temperature=[1.0]))]},
            "strategy 'x': temperature: expected one number or 4",
        ),
        ({"arms": [BASELINE], "sampling": sdvar.Sampling(temperature=[1.0, 2.0])}, "temperature: expected one number"),
    ],
)
def test_wrong_arguments_are_named(pair, arguments, error):
    with pytest.raises(ValueError, match=error):
        SDVARPredictor(pair, **arguments)


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b"])
def test_an_arms_name_must_be_a_folders(name):
    with pytest.raises(ValueError, match="cannot name an arm"):
        Arm(name, sdvar.Baseline())


def test_the_baseline_cannot_be_something_else():
    with pytest.raises(ValueError, match=r"must be sdvar.Baseline\(\)"):
        Arm("baseline", sdvar.Baseline("draft"))
    with pytest.raises(ValueError, match="with its own sampling"):
        Arm("baseline", sdvar.Baseline(), sampling=sdvar.Sampling(top_k=1))


def test_on_a_gpu_graphs_are_captured_before_the_first_counted_decode(cuda):
    """Arms with and without guidance and a comparison with the baseline, batch after batch."""
    pair = close_pair((1, 2, 3))
    arms = [BASELINE, SPECULATIVE, Arm("unguided", sdvar.Baseline(), sampling=sdvar.Sampling(cfg=0.0))]
    predictor = SDVARPredictor(pair, arms, engine=sdvar.Engine(graphs=True))
    predictor._place(torch.device("cuda:1"))
    counts = []
    for number in range(3):
        predictor.predict_step(make_batch(number), number)
        counts.append(cuda.count("capture"))
    assert counts[0] > 0
    assert counts == [counts[0]] * 3
    assert cuda.count("replay") > 3 * 3
    assert cuda.contexts == {1}


def test_a_counted_decode_captures_nothing(cuda, monkeypatch):
    """Not even where the warm-up has captured nothing."""
    monkeypatch.setattr(module, "warm_up", lambda decode, models: None)
    predictor = SDVARPredictor(close_pair((1, 2, 3)), [BASELINE, SPECULATIVE], engine=sdvar.Engine(graphs=True))
    predictor._place(torch.device("cuda:0"))
    predictor.predict_step(make_batch(), 0)
    assert (cuda.count("capture"), cuda.count("replay")) == (0, 0)


def test_processes_of_one_run_have_one_precision(pair):
    """ "auto" stands for different ones on machines of different kinds."""
    predictor = SDVARPredictor(pair, [Arm("baseline", sdvar.Baseline())])
    strategy = SimpleNamespace(broadcast=lambda value: "bf16-true")
    predictor._trainer = SimpleNamespace(precision="32-true", world_size=2, global_rank=1, strategy=strategy)
    with pytest.raises(
        ValueError, match="precision: bf16-true in the first process and 32-true in process 1; give one"
    ):
        predictor.setup("predict")


def test_a_draft_with_guidance_inside_is_in_the_settings_and_another_guidance_is_said(caplog):
    pair = close_pair(dtype=torch.float32)
    pair.draft.guidance_inside = sdvar.Sampling(cfg=2.0)
    arms = [BASELINE, SPECULATIVE, HANDOFF]
    described = SDVARPredictor(pair, arms, sdvar.Sampling(cfg=2.0)).settings()["arms"]
    assert not caplog.records
    assert "guidance_inside" not in described["baseline"]
    for name in ("speculative", "handoff"):
        assert (
            described[name]["guidance_inside"] == {"cfg": 2.0, "cfg_until": None} and "warnings" not in described[name]
        )
    described = SDVARPredictor(pair, arms, sdvar.Sampling(cfg=1.0)).settings()["arms"]
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in said] == ["strategy 'speculative'", "strategy 'handoff'"]
    assert described["handoff"]["warnings"] == [said[1].removeprefix("strategy 'handoff': ")]
