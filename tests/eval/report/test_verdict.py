"""eval.report.verdict: true sentences on what was compared and what came out, whatever the run has."""

import pytest

from eval.report.run import Run
from eval.report.tradeoff import frontier, points
from eval.report.verdict import section
from tests.eval.finished_run import SIMULATED, arm_metrics, arms

FAR = "a Fréchet distance (fashion-mnist-128) of"


def run_of(arms):
    return Run(None, {"arms": arms, "batch_size": 64}, "", {})


def said(words):
    return f"{words['arm']} {words['text']}".strip()


def some(*names, **more):
    return {name: arms()[name] for name in ("baseline", *names)} | more


def many(*names, **more):
    """Enough images to compare distances of 128 features."""
    return {name: arm | {"images": 1280} for name, arm in some(*names, **more).items()}


def measured(images, **intervals):
    """Arms with intervals of their distance to the baseline, whose middle it is."""
    run = some(*intervals)
    for name, (low, high) in intervals.items():
        far = {"frechet_distance_to_baseline": (low + high) / 2, "frechet_distance_to_baseline_interval": [low, high]}
        run[name] = run[name] | far
    return {name: arm | {"images": images} for name, arm in run.items()}


def lossy(**changes):
    return arms()["lossy"] | changes


DRAFT = {"kind": "draft", "frechet_distance_to_baseline": 0.05, "speed_relative_to_baseline": 2.85}
EXACT = arms()["speculative"]
REJECTION = EXACT | {"exact": False, "token_agreement_with_baseline": 0.4, "images_differing_from_baseline": 40}


@pytest.mark.parametrize(("run", "compared", "verdict"), [
    (
        some("speculative", "baseline_reseeded"),
        "speculative is compared with the baseline, the target model alone, on 40 images with the same classes and "
        "seeds.",
        ["Lossless: speculative keeps the baseline's tokens in all 40 images and is slower than the baseline (0.87 "
         "times its speed)."],
    ),
    (
        many("lossy", "baseline_reseeded"),
        "lossy is compared",
        [f"Lossy: lossy has {FAR} 0.261 to the baseline, above the noise floor of 0.104, and is faster than the "
         "baseline (1.31 times its speed)."],
    ),
    (
        many("baseline_reseeded", a=lossy(frechet_distance_to_baseline=0.05), b=lossy(frechet_distance_to_baseline=0.09,
             speed_relative_to_baseline=1.5), c=lossy(speed_relative_to_baseline=9.0)),
        "3 arms are compared",
        [f"Lossy: b is faster than the baseline (1.50 times its speed), with {FAR} 0.090 to the baseline, below the "
         "noise floor of 0.104; it is the fastest of the 2 not above it, of 3 lossy arms."],
    ),
    (
        many("lossy", "handoff", "baseline_reseeded"),
        "2 arms are compared",
        [f"Lossy: handoff has {FAR} 0.118 to the baseline, above the noise floor of 0.104, and is faster than the "
         "baseline (1.12 times its speed); it is the closest of 2 lossy arms, all above it."],
    ),
    (
        many("lossy"),
        "lossy is compared",
        [f"Lossy: lossy is faster than the baseline (1.31 times its speed), with {FAR} 0.261 to the baseline; this run "
         "has no noise floor to compare it with."],
    ),
    (
        many("lossy", "baseline_reseeded", near=lossy(frechet_distance_to_baseline=0.108)),
        "2 arms are compared",
        [f"Lossy: near is faster than the baseline (1.31 times its speed), with {FAR} 0.108 to the baseline, not "
         "clearly different from the noise floor of 0.104; it is the only one not above it, of 2 lossy arms."],
    ),
    (
        some("lossy", "handoff", "baseline_reseeded"),
        "2 arms are compared",
        [f"Lossy: lossy is faster than the baseline (1.31 times its speed), with {FAR} 0.261 to the baseline; 40 "
         "images are too few to rank distances (1,280 are needed), so the 2 lossy arms are compared by their speed "
         "alone."],
    ),
    (
        measured(200, lossy=(0.02, 0.05), handoff=(0.08, 0.12), baseline_reseeded=(0.09, 0.12)),
        "2 arms are compared",
        [f"Lossy: lossy is faster than the baseline (1.31 times its speed), with {FAR} 0.035 to the baseline, below "
         "the noise floor of 0.105; it is the only one clearly below it, of 2 lossy arms."],
    ),
    (
        measured(200, lossy=(0.20, 0.30), baseline_reseeded=(0.09, 0.12)),
        "lossy is compared",
        [f"Lossy: lossy has {FAR} 0.250 to the baseline, above the noise floor of 0.105, and is faster than the "
         "baseline (1.31 times its speed)."],
    ),
    (
        measured(200, lossy=(0.06, 0.10), baseline_reseeded=(0.09, 0.12)),
        "lossy is compared",
        [f"Lossy: lossy is faster than the baseline (1.31 times its speed), with {FAR} 0.080 to the baseline; 200 "
         "images are too few to rank distances (1,280 are needed)."],
    ),
    (
        measured(100, lossy=(0.02, 0.05), baseline_reseeded=(0.09, 0.12)),
        "lossy is compared",
        [f"Lossy: lossy is faster than the baseline (1.31 times its speed), with {FAR} 0.035 to the baseline; 100 "
         "images are too few to rank distances (1,280 are needed)."],
    ),
    (
        measured(2000, lossy=(0.06, 0.10), baseline_reseeded=(0.09, 0.12)),
        "lossy is compared",
        [f"Lossy: lossy is faster than the baseline (1.31 times its speed), with {FAR} 0.080 to the baseline, not "
         "clearly different from the noise floor of 0.105."],
    ),
    (
        many("lossy", "baseline_reseeded", draft=lossy(**DRAFT)),
        "2 arms are compared",
        [f"Lossy: lossy has {FAR} 0.261 to the baseline, above the noise floor of 0.104, and is faster than the "
         "baseline (1.31 times its speed)."],
    ),
    (
        many("baseline_reseeded", draft=lossy(**DRAFT)),
        "draft is compared",
        [f"Lossy: draft is one model alone and is faster than the baseline (2.85 times its speed), with {FAR} 0.050 to "
         "the baseline."],
    ),
    (
        some("speculative", "baseline_reseeded", quick=EXACT | {"speed_relative_to_baseline": 1.4}, other=REJECTION),
        "3 arms are compared",
        ["Lossless: quick keeps the baseline's tokens in all 40 images and is faster than the baseline (1.40 times its "
         "speed); it is the fastest of 3 lossless arms."],
    ),
    (
        some(other=REJECTION | {"speed_relative_to_baseline": 1.004}),
        "other is compared",
        ["Lossless: other keeps the baseline's distribution, with its own random draws, and is as fast as the baseline "
         "(1.00 times its speed)."],
    ),
    (
        some("baseline_reseeded", sim=lossy(**SIMULATED)),
        "sim is compared",
        ["Simulated: sim is faster than the baseline (1.31 times its speed), given a draft with these acceptance "
         "rates; its images are meaningless."],
    ),
    (
        some("baseline_reseeded"),
        "This run has 40 images from the baseline, the target model alone, and nothing to compare them with.",
        [],
    ),
    (
        {"speculative": {key: value for key, value in EXACT.items() if "baseline" not in key}},
        "This run has 40 images per arm and no baseline to compare them with.",
        [],
    ),
], ids=["lossless", "lossy", "within", "none within", "no floor",
        "near", "few images", "few, below", "few, above", "few, unclear", "singular", "intervals",
        "beside the draft", "the draft", "all lossless", "distribution", "simulated", "alone",
        "no baseline"])  # fmt: skip
def test_the_verdict_says_what_the_metrics_say(run, compared, verdict):
    context = section(run_of(run))
    assert said(context["compared"]).startswith(compared)
    assert [f"{sentence['title']}: {said(sentence)}" for sentence in context["verdict"]] == verdict


def test_speeds_from_few_batches_are_not_quoted_without_a_word():
    run = some("speculative")
    run["speculative"] = EXACT | {"warnings": ["speed: too few batches to quote it (1)"]}
    assert section(run_of(run))["verdict"][-1]["text"] == "There are too few batches to quote the speeds."


UNTIMED = {"warnings": ["speed: too few batches to quote it (1)"]}


def test_arms_are_not_ranked_by_speeds_from_few_batches():
    for far in ({}, {"frechet_distance_to_baseline": None}):  # too few images, or no distance at all
        arms_of_a_batch = {name: lossy(**UNTIMED, **far) for name in ("one", "two")}
        text = section(run_of(some(**arms_of_a_batch)))["verdict"][0]["text"]
        assert "fastest" not in text and "alone" not in text
        assert far or text.endswith("there are too few batches to rank the 2 lossy arms.")
    exact = dict.fromkeys(("one", "two"), EXACT | UNTIMED)
    assert "fastest" not in section(run_of(some(**exact)))["verdict"][0]["text"]


def test_one_image_is_one():
    run = {name: arm | {"images": 1, "images_differing_from_baseline": 0} for name, arm in some("speculative").items()}
    words = section(run_of(run))
    assert "keeps the baseline's tokens in its one image" in words["verdict"][0]["text"]
    assert any("its one image has the baseline's tokens" in said(sentence) for sentence in words["lines"])


INTERVAL = "speed_relative_to_baseline_interval"


@pytest.mark.parametrize(("changes", "words"), [
    ({INTERVAL: [1.2, 1.4]}, "is faster than the baseline (1.31 times its speed)"),
    ({INTERVAL: [0.9, 1.4]}, "ran at 1.31 times the baseline's speed, no difference seen (95 % interval 0.90 … 1.40)"),
    ({"warnings": ["speed: too few batches to quote it (1)"]}, "ran at 1.31 times the baseline's speed;"),
])  # fmt: skip
def test_a_speed_that_its_interval_does_not_decide_is_no_gain(changes, words):
    run = run_of(some("lossy", lossy=lossy(frechet_distance_to_baseline=None, **changes)))
    assert section(run)["verdict"][0]["text"].startswith(words)


def test_key_metrics():
    context = section(run_of(some("speculative", "baseline_reseeded")))
    values = {tile["title"]: (tile["value"], tile["note"]) for tile in context["tiles"]}
    assert context["first"] == "speculative" and values["Speed"][0] == "0.87 ×"  # noqa: RUF001
    assert values["Fréchet distance (fashion-mnist-128) to the baseline"] == ("0.000", "noise floor 0.104")
    assert values["Tokens matching the baseline"] == ("100 %", "lossless, as promised")
    alone = section(run_of(some()))["tiles"]
    assert [tile["value"] for tile in alone] == ["71.3", "2.271", "8.41"]
    simulated = section(run_of(some(sim=lossy(**SIMULATED))))["tiles"]
    assert [tile["title"] for tile in simulated] == ["Speed", "Target calls per image"]


NOTHING_DRAFTED = EXACT | {"draft_calls_mean": 0.0, "speed_relative_to_baseline": 1.01}
AT_ONE = {"batch_size": 1, "arm": "speculative", "pays": True, "strategy": "Speculative(2)", "reason": "",
          "speed": 1.068, "speed_noise": 0.01}  # fmt: skip


@pytest.mark.parametrize(("at_one", "words"), [
    ({}, "at batch size 64."),
    (AT_ONE, "at batch size 64; at batch size 1 it does, at 1.07 \xb1 0.01 times the baseline's speed."),
    (AT_ONE | {"pays": False, "reason": "the best schedule took 1.02"},
     "at batch size 64, nor at 1 (the best schedule took 1.02)."),
], ids=["not measured", "pays", "pays neither"])  # fmt: skip
def test_where_nothing_is_drafted_the_verdict_says_whether_batch_size_1_differs(at_one, words):
    run = run_of(some("lossy", speculative=NOTHING_DRAFTED))
    run.metrics["speculation_at_batch_1"] = at_one
    lossless = section(run)["verdict"][0]["text"]
    assert lossless.startswith("keeps the baseline's tokens in all 40 images and drafts nothing: ")
    assert lossless.endswith(f"speculation was not found to pay {words}")


def test_the_key_metrics_are_those_of_the_best_arm():
    """The lossless arm if it gains, else the lossy one that the verdict names, and before all an arm at fault."""
    gaining = EXACT | {"speed_relative_to_baseline": 1.1}
    faulty = EXACT | {"images_differing_from_baseline": 3}
    assert section(run_of(some("lossy", speculative=gaining)))["first"] == "speculative"
    assert section(run_of(many("lossy", speculative=NOTHING_DRAFTED)))["first"] == "lossy"
    assert section(run_of(some("lossy", speculative=NOTHING_DRAFTED)))["first"] == "speculative"  # too few images
    assert section(run_of(many(draft=lossy(**DRAFT), speculative=NOTHING_DRAFTED)))["first"] == "speculative"
    assert section(run_of(many("lossy", "speculative")))["first"] == "lossy"
    assert section(run_of(some("lossy", speculative=faulty)))["first"] == "speculative"
    slow = lossy(speed_relative_to_baseline=0.9)
    assert section(run_of(some("speculative", slow=slow)))["first"] == "speculative"


def test_of_many_arms_the_frontiers_have_sentences():
    arms_ = {f"arm_{index}": lossy(speed_relative_to_baseline=0.5) for index in range(20)}
    arms_["best"] = lossy(speed_relative_to_baseline=2.0)
    context = section(run_of(some("speculative", "baseline_reseeded", **arms_)))
    assert [line["arm"] for line in context["lines"]] == ["speculative", "best", "arm_0", "arm_1", "arm_2"]
    assert context["more"] == 17


def test_the_frontier_has_what_no_other_beats():
    of = {"base": (1, 0), "slow": (0.5, 0), "fast": (2, 1), "beaten": (1.9, 1), "near": (1.5, 0.5), "far": (2, 3)}
    assert frontier(of) == ["base", "near", "fast"]
    assert frontier({"one": (1, 1)}) == ["one"] and frontier({}) == []


def test_points_are_of_arms_whose_images_are_meaningful():
    run = arms() | {"sim": lossy(**SIMULATED), "untimed": lossy(speed_relative_to_baseline=None)}
    run["broken"] = EXACT | {"images_differing_from_baseline": 3}
    assert points(run) == {
        "baseline": (1.0, 0.0), "speculative": (0.874, 0.0), "lossy": (1.31, 0.261), "handoff": (1.12, 0.118),
    }  # fmt: skip
    assert points({"alone": arm_metrics()}) == {}


def test_the_head_says_what_was_run():
    run = run_of(some("lossy"))
    run.metrics["config"] = {"pair": "tiny", "draft": "target:int8", "sampling": {"cfg": 1.5, "top_k": 60}}
    run.metrics["environment"] = {"device": "cpu", "processor": "A CPU", "date": "2026-01-02"}
    assert section(run)["facts"] == {
        "Models": "the bundled pair tiny with target:int8",
        "Sampling": "cfg 1.5, top_k 60",
        "Decoded on": "A CPU",
        "Measured": "2026-01-02",
        "Images": "40 per arm",
    }
    run.metrics["config"] = {"target": "/a/var_d30.pth", "draft": "var_d16.pth", "tokenizer": "vae.pth"}
    assert section(run)["facts"]["Models"] == "var_d30.pth, var_d16.pth, vae.pth"
