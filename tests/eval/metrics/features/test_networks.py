"""eval.metrics.features.networks: several networks in one run, each with its own values everywhere."""

import json

import pytest
import yaml

from eval import export, measure, verify
from eval.claims.schema import claim_schema
from eval.metrics.feature_metrics import measure_images
from eval.metrics.features.networks import parse_networks
from eval.metrics.schema import metrics_schema
from tests.eval.metrics.json_schema import violations
from tests.eval.small_networks import COLOURS, EDGES, register

FIRST = "fashion-mnist-128"
NAMES = f"{FIRST},{COLOURS},{EDGES}"


@pytest.fixture(autouse=True)
def registered():
    register()


def arguments(**weights):
    return [{"feature_extractor": name, "feature_extractor_weights": file} for name, file in weights.items()]


@pytest.mark.parametrize(
    ("names", "weights", "expected"),
    [
        ("a", None, arguments(a=None)),
        ("a", "f,g=h.pth", arguments(a="f,g=h.pth")),  # of one network all of it is a path
        ("a", "a=f.pth", arguments(a="f.pth")),
        ("a, b", "b=f.pth", arguments(a=None, b="f.pth")),
        (["a", "b"], ["b=x=y.pth", "a=download"], arguments(a="download", b="x=y.pth")),
        ("a,b", "download", arguments(a="download", b="download")),
        (None, None, []),
    ],
)
def test_networks_and_their_weights(names, weights, expected):
    assert parse_networks(names, weights) == expected


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        ("a,b,a", None, "feature_extractor: expected each network once, got 'a' twice"),
        (
            "a,b",
            "f.pth",
            "feature_extractor_weights: expected NAME=FILE for networks among a, b, or download; got 'f.p",
        ),
        (
            "a,b",
            "c=f.pth",
            "feature_extractor_weights: expected NAME=FILE for networks among a, b, or download; got 'c=",
        ),
    ],
)
def test_what_fits_no_network_is_named(names, weights, message):
    with pytest.raises(ValueError, match=message):
        parse_networks(names, weights)


def test_each_network_has_its_own_values_everywhere(copied_run, small_reference, pair_line, capsys):
    measure.main(["--out", str(copied_run), "--metrics", "is,fid", "--feature_extractor", NAMES])
    printed = capsys.readouterr().out
    metrics, claim = (json.loads((copied_run / f"{name}.json").read_text()) for name in ("metrics", "claim"))
    assert violations(metrics, metrics_schema()) == [] and violations(claim, claim_schema()) == []
    lossy = metrics["arms"]["lossy"]
    assert lossy["feature_extractor"] == FIRST and list(lossy["networks"]) == [COLOURS, EDGES]
    for name in (COLOURS, EDGES):
        alone = measure_images(
            copied_run / "lossy", baseline=copied_run / "baseline", reference=small_reference, feature_extractor=name
        )
        for key in ("frechet_distance_to_baseline", "frechet_distance_to_reference", "feature_extractor_sha256"):
            assert lossy["networks"][name][key] == pytest.approx(alone[key], abs=1e-6), (name, key)
        assert lossy["networks"][name]["repeats"]["count"] == 2
        assert f"{name}: no Inception Score ({name}): the network tells no classes apart" in lossy["warnings"]
        assert f"by {name}" in printed and f"By {name}" in (copied_run / "report.html").read_text()
    assert "inception_score_mean" in lossy and "inception_score_mean" not in lossy["networks"][EDGES]
    assert set(metrics["measured_on"]["weights_sha256"]) == {FIRST, COLOURS, EDGES}
    assert yaml.safe_load((copied_run / "config.yaml").read_text())["feature_extractor"] == NAMES
    key = "frechet_distance_to_reference"
    assert claim["arms"]["lossy"]["figures"]["networks"][EDGES][key] == lossy["networks"][EDGES][key]

    lossy["networks"][EDGES][key] += 1
    (copied_run / "metrics.json").write_text(json.dumps(metrics))
    assert verify.main([str(copied_run / "claim.json"), *pair_line, "--images", "1", "--arms", "lossy"]) == 1
    said = capsys.readouterr().out
    assert "lossy: networks: claimed" in said and "reproduced: 1 of 1" in said and said.count("claimed") == 1, said
    file = copied_run.parent / "statistics.npz"
    export.main(["--out", str(copied_run), "--arm", "lossy", "--statistics", str(file)])
    assert f"of 128 features by {FIRST}" in capsys.readouterr().out
