"""The metrics are torch-fidelity's own, on the right images, and say when there are too few."""

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from eval.metrics.feature_metrics import measure_images as measure
from eval.metrics.features.extraction import Features, extract
from eval.metrics.features.extractors import BUNDLED_EXTRACTOR, register_extractors
from eval.metrics.features.networks import weights_digest
from eval.metrics.features.published import INCEPTION
from eval.metrics.quality import frechet_distance, inception_score, kernel_distance, precision_recall
from tests.eval.metrics.blobs import Images

LAYERS = {"128": 128, "logits": 10}


def test_measure_equals_calculate_metrics(options, weights):
    import torch_fidelity
    from torch_fidelity.defaults import DEFAULTS

    ours, other = Images(300, seed=1), Images(280, seed=2, brightness=0.8)
    keywords = {
        "cuda": torch.cuda.is_available(),
        "cache": False,
        "isc": True,
        "fid": True,
        "kid": True,
        "prc": True,
        "kid_subset_size": 140,
        "feature_extractor": BUNDLED_EXTRACTOR,
        "feature_extractor_weights_path": str(weights),
        "save_cpu_ram": True,
        "verbose": False,
    }
    assert set(keywords) <= set(DEFAULTS), "torch-fidelity would drop the rest silently"
    for metric in (inception_score, kernel_distance, precision_recall):
        assert set(metric.SETTINGS) <= set(DEFAULTS), metric.__name__
    register_extractors()
    expected = torch_fidelity.calculate_metrics(input1=ours, input2=other, **keywords)

    metrics = ["is", "fid", "kid", "prc"]
    result = measure(ours, baseline=other, reference=extract(other, **options), metrics=metrics, **options)

    pairs = {f"inception_score_{part}": f"inception_score_{part}" for part in ("mean", "std")}
    pairs |= {name: name for name in ("precision", "recall")}
    for name in ("baseline", "reference"):
        pairs[f"frechet_distance_to_{name}"] = "frechet_inception_distance"
        for part in ("mean", "std"):
            pairs[f"kernel_inception_distance_to_{name}_{part}"] = f"kernel_inception_distance_{part}"
    for name, theirs in pairs.items():
        assert result[name] == pytest.approx(expected[theirs], abs=1e-9), name
    assert result["kernel_inception_distance_to_baseline_subset_size"] == 140
    assert 0 < result["recall"] != result["precision"] > 0
    assert (result["precision_recall_against"], result["precision_recall_images"]) == ("reference", 300)


def test_precision_falls_with_foreign_images_and_recall_with_mode_collapse(options):
    real = extract(Images(300, seed=1), **options)
    foreign, collapsed = (
        extract(Images(300, seed=2, brightness=0.2), **options),
        extract(Images(300, seed=2, classes=1), **options),
    )
    of_foreign, of_collapsed = (
        measure(images, baseline=real, metrics=["prc"], **options) for images in (foreign, collapsed)
    )
    assert of_foreign["precision"] < 0.5 < of_collapsed["precision"] and of_collapsed["recall"] < 0.5
    assert of_foreign["precision_recall_against"] == "baseline"


def test_precision_of_many_images_takes_the_same_subset_and_says_so(options, monkeypatch):
    ours, other = extract(Images(60, seed=1), **options), extract(Images(50, seed=2), **options)
    monkeypatch.setattr(precision_recall, "MOST_IMAGES", 40)
    first, second = (measure(ours, baseline=other, metrics=["prc"], **options) for _ in range(2))
    assert first == second and first["precision_recall_images"] == 40
    assert [text for text in first["warnings"] if "of 60 images a random subset of 40 is taken" in text]
    assert not [text for text in first["warnings"] if "unequal" in text]


@pytest.mark.parametrize(("count", "other", "size"), [(3, 9, None), (4, 9, 2), (60, 45, 22), (2000, 2100, 1000)])
@pytest.mark.one_in(3)
def test_kernel_distance_of_few_images_takes_smaller_subsets_and_says_so(options, count, other, size):
    rng = np.random.default_rng(0)
    sets = []
    for images in (count, other):
        layers = {name: torch.from_numpy(rng.random((images, width), np.float32)) for name, width in LAYERS.items()}
        digest = weights_digest(**options)
        sets.append(Features(BUNDLED_EXTRACTOR, digest, layers, None, images, (32, 32)))
    result = measure(sets[0], reference=sets[1], metrics=["kid"], **options)
    assert result.get("kernel_inception_distance_to_reference_subset_size") == size
    part = {None: "no kernel distance to the reference", 1000: None}.get(
        size, f"subsets of {size} images instead of 1,000"
    )
    assert [part in text for text in result["warnings"]] == ([] if part is None else [True])


@pytest.mark.parametrize(("count", "warned"), [(9_999, True), (10_000, False)])
def test_plain_fid_of_fewer_than_10000_images_is_warned_of(count, warned):
    statistics = {"mu": np.zeros(4, np.float32), "sigma": np.eye(4, dtype=np.float32)}
    ours = Features(INCEPTION, "", {}, statistics, count, (256, 256))
    reference = Features(INCEPTION, "", {}, statistics, None, None)
    _, warnings = frechet_distance.compute(ours, {"reference": reference})
    assert any("too few to cite" in text for text in warnings) == warned


def test_a_metric_that_was_not_asked_for_is_not_measured(options):
    images = extract(Images(40), **options)
    for metrics, part in ((["is"], "inception_score"), (["fid"], "frechet"), (["kid"], "kernel"), (["prc"], "recall")):
        found = measure(images, baseline=images, metrics=metrics, **options)
        kept = set(found) - {"images", "feature_extractor", "feature_extractor_sha256", "warnings"}
        assert kept and all(name.startswith(part) or metrics == ["prc"] for name in kept)


def test_a_part_of_the_features_is_that_of_its_images(options):
    images = Images(60, seed=3)
    part = extract(images, **options).part(20, 60)
    alone = extract(Subset(images, range(20, 60)), **options)
    assert part.images == alone.images == 40
    for key in ("mu", "sigma"):
        np.testing.assert_allclose(part.statistics[key], alone.statistics[key], atol=1e-5)


def test_inception_score_is_of_the_images_and_falls_with_mode_collapse(options):
    varied, collapsed = extract(Images(400, seed=1), **options), extract(Images(400, seed=1, classes=1), **options)
    of_varied = measure(varied, reference=collapsed, **options)["inception_score_mean"]
    of_collapsed = measure(collapsed, reference=varied, **options)["inception_score_mean"]
    assert of_collapsed < 0.8 * of_varied


def test_distance_is_zero_for_equal_sets_and_grows_with_the_difference(options):
    images = extract(Images(300, seed=1), **options)
    same, near, far = (
        measure(images, baseline=other, **options)["frechet_distance_to_baseline"]
        for other in (Images(300, seed=1), Images(300, seed=2), Images(300, seed=2, brightness=0.3))
    )
    assert abs(same) < 1e-3 < near < far
    assert far > 3 * near


def test_absent_inputs_leave_their_keys_absent(options):
    result = measure(Images(40), **options)
    assert {key for key in result if key.startswith("frechet")} == set()
    assert result["images"] == 40 and result["feature_extractor"] == BUNDLED_EXTRACTOR
    assert not any("Fréchet" in warning for warning in result["warnings"])


def test_features_are_extracted_once_and_nothing_is_kept_on_disk(options, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    reference = Images(60, seed=5)
    features = extract(reference, **options)
    after_extraction = reference.reads
    for seed in (1, 2, 3):
        measure(Images(60, seed=seed), baseline=features, reference=features, **options)
    assert reference.reads == after_extraction
    assert not (tmp_path / "torch").exists()


@pytest.mark.parametrize(
    ("count", "expected", "absent"),
    [
        (1, ["no Inception Score", "no Fréchet distance to the baseline"], ["inception_score_mean", "frechet"]),
        (9, ["no Inception Score", "singular"], ["inception_score_mean"]),
        (25, ["25 images in 2 splits instead of 10", "singular"], []),
        (100, ["Inception Score (fashion-mnist-128) reads low: 100 images in 10 splits are", "singular"], []),
        (399, ["Inception Score (fashion-mnist-128) reads low", "the distance reads high"], []),
        (511, ["the distance reads high"], []),
        (512, [], []),
    ],
)
def test_too_few_images_are_warned_of(options, count, expected, absent):
    images = Images(count)
    result = measure(images, baseline=images, **options)
    assert len(result["warnings"]) == len(expected)
    for warning, part in zip(result["warnings"], expected, strict=True):
        assert part in warning
    for part in absent:
        assert not any(part in key for key in result)
