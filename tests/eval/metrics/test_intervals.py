"""Intervals: they cover the truth at their level, and agree with a bootstrap that makes everything anew."""

import numpy as np
import pytest
import torch

from eval.metrics.decoding import speed
from eval.metrics.intervals import around, bootstrap, of_share, standard_error
from eval.metrics.metric import ArmTables
from eval.metrics.quality import frechet_intervals, inception_score, kernel_distance
from eval.metrics.quality.frechet_intervals import Moments, distance, extrapolate, influences, paired_error
from eval.report.words import difference

WIDTH, IMAGES, DRAWS = 16, 400, 200
UNIT = Moments(torch.zeros(WIDTH).double(), torch.eye(WIDTH).double())


def gaussian(seed=0, bent=0.0):
    """A mean and a factor of a covariance."""
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(WIDTH, WIDTH)) / 4 + np.eye(WIDTH)
    return generator.normal(size=WIDTH) / 5, factor + bent * generator.normal(size=(WIDTH, WIDTH))


def population(mean, factor):
    return Moments(torch.from_numpy(mean), torch.from_numpy(factor @ factor.T))


def share_covered(covered):
    return sum(covered) / len(covered)


def test_the_extrapolated_distance_covers_the_true_one():
    mean, factor = gaussian()
    truth, generator, covered = distance(population(mean, factor), UNIT), np.random.default_rng(1), []
    for _ in range(DRAWS):
        features = torch.from_numpy(generator.normal(size=(IMAGES, WIDTH)) @ factor.T + mean)
        error = standard_error(influences(features, Moments.of(features), UNIT))
        low, high = around(*extrapolate(features, UNIT, error))
        covered.append(low < truth < high)
    assert 0.90 <= share_covered(covered) <= 0.98


def test_the_paired_difference_covers_the_true_one_and_is_narrower_than_one_without_pairs():
    (mean, factor), (_, bent) = gaussian(), gaussian(bent=0.05)
    truth = distance(population(mean, bent), UNIT) - distance(population(mean, factor), UNIT)
    generator, covered = np.random.default_rng(2), []
    for _ in range(DRAWS):
        noise = generator.normal(size=(IMAGES, WIDTH))
        ours, base = (torch.from_numpy(noise @ each.T + mean) for each in (bent, factor))
        moments = Moments.of(ours), Moments.of(base)
        of_images = influences(ours, moments[0], UNIT), -influences(base, moments[1], UNIT)
        error = paired_error(*of_images)
        low, high = around(distance(moments[0], UNIT) - distance(moments[1], UNIT), error)
        covered.append(low < truth < high)
        assert error < 0.5 * np.hypot(*map(standard_error, of_images))
    assert 0.90 <= share_covered(covered) <= 0.98


def test_two_sets_of_one_model_have_a_distance_of_zero_at_infinitely_many_images():
    mean, factor = gaussian()
    generator, covered, few = np.random.default_rng(3), [], []
    for _ in range(40):
        sets = [torch.from_numpy(generator.normal(size=(IMAGES, WIDTH)) @ factor.T + mean) for _ in range(2)]
        ours, theirs = map(Moments.of, sets)
        error = paired_error(influences(sets[0], ours, theirs), influences(sets[1], theirs, ours))
        low, high = around(*extrapolate(*sets, error))
        covered.append(low < 0 < high)
        few.append(distance(ours, theirs))
    assert share_covered(covered) >= 0.90  # where the first order vanishes the interval is too wide
    assert min(few) > 0.2  # what few images read instead


def test_the_distance_is_torch_fidelitys_and_the_error_that_of_a_bootstrap_with_covariances_made_anew():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    mean, factor = gaussian()
    generator = np.random.default_rng(4)
    features = torch.from_numpy(generator.normal(size=(IMAGES, WIDTH)) @ factor.T + mean)
    theirs = {"mu": np.zeros(WIDTH), "sigma": np.eye(WIDTH)}
    expected = fid_statistics_to_metric(fid_features_to_statistics(features), theirs, verbose=False)
    own = Moments.of(features)
    assert distance(own, UNIT) == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)
    drawn = [distance(Moments.of(features[generator.integers(IMAGES, size=IMAGES)]), UNIT) for _ in range(300)]
    assert standard_error(influences(features, own, UNIT)) == pytest.approx(np.std(drawn), rel=0.15)


def test_equal_sets_differ_by_nothing_and_few_images_are_not_extrapolated():
    features = torch.from_numpy(np.random.default_rng(5).normal(size=(WIDTH + 4, WIDTH)))
    own = Moments.of(features)
    assert distance(own, own) == pytest.approx(0, abs=1e-6)
    assert paired_error(influences(features, own, own), influences(features, own, own)) == pytest.approx(0, abs=1e-5)
    assert extrapolate(features, own, 0.0) is None
    few = features[: WIDTH // 2]  # a singular covariance
    assert np.isfinite(influences(few, Moments.of(few), UNIT)).all()


class Set:
    """Features of one network for every metric."""

    feature_extractor = "fashion-mnist-128"  # which has classes

    def __init__(self, features):
        self.features, self.images = torch.from_numpy(features).float(), len(features)

    def of(self, metric):
        return self.features


def test_kernel_distance_and_inception_score_have_the_spread_of_many_sets():
    generator = np.random.default_rng(6)
    found = {"kid": [], "is": []}
    other = Set(generator.normal(size=(300, 8)))
    for _ in range(60):
        ours = Set(0.3 + 1.2 * generator.normal(size=(300, 8)))
        kernel, score = kernel_distance.compute(ours, {"reference": other})[0], inception_score.compute(ours, {})[0]
        key = "kernel_inception_distance_to_reference_mean"
        found["kid"].append((kernel[key], np.ptp(kernel[f"{key}_interval"])))
        found["is"].append((score["inception_score_mean"], np.ptp(score["inception_score_mean_interval"])))
    for name, values in found.items():
        value, width = np.array(values).T
        assert 3 < width.mean() / value.std() < 5.5, name  # 3.92 standard errors


def test_intervals_of_shares_and_medians():
    assert of_share(0.5, 100) == pytest.approx([0.404, 0.596], abs=1e-3)
    assert of_share(1.0, 10) == pytest.approx([0.722, 1.0], abs=1e-3)
    low, high = bootstrap(range(1, 102), lambda drawn: np.median(drawn, axis=-1))
    assert 38 <= low <= 45 and 57 <= high <= 64
    batches = [{"seconds": str(2 + index / 10), "baseline_seconds": "4"} for index in range(9)]
    tables = ArmTables(None, [], batches, batch_size=10)
    values, _ = speed.compute(tables)
    for name in ("seconds_per_batch_median", "images_per_second", "speed_relative_to_baseline"):
        low, high = values[f"{name}_interval"]
        assert low < values[name] < high


@pytest.mark.parametrize(("interval", "words"), [
    ((-0.02, 0.05), "no difference seen (95 % interval \N{MINUS SIGN}0.020 … +0.050)"),
    ((-0.05, -0.02), "better (95 % interval \N{MINUS SIGN}0.050 … \N{MINUS SIGN}0.020)"),
    ((0.02, 0.05), "worse (95 % interval +0.020 … +0.050)"),
    ((0.0, 0.0), "no difference seen (95 % interval 0.000 … 0.000)"),
])  # fmt: skip
def test_a_difference_in_words(interval, words):
    assert difference({"frechet_distance_to_reference_difference_interval": interval}) == words


def test_features_of_few_rows_at_a_time_give_the_same(monkeypatch):
    features = torch.from_numpy(np.random.default_rng(7).normal(size=(50, WIDTH)))
    whole = influences(features, Moments.of(features), UNIT)
    monkeypatch.setattr(frechet_intervals, "ROWS", 7)
    assert np.allclose(whole, influences(features, Moments.of(features), UNIT))
