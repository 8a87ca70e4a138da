"""eval.metrics.registry: what derives from it is complete, and a metric of one's own takes part everywhere."""

import subprocess
import sys

import pytest

from eval.metrics import registry
from eval.metrics.feature_metrics import measure_images
from eval.metrics.features.extractors import BUNDLED_EXTRACTOR
from eval.metrics.metric import Column, Metric
from eval.metrics.schema import column_schema, metrics_schema
from tests.eval.metrics.json_schema import violations
from tests.eval.metrics.test_feature_metrics import Images


def test_names_and_keys_are_unique_and_every_spread_is_a_column():
    names = [metric.name for metric in registry.METRICS]
    keys = [column.key for column in registry.columns()]
    assert len(set(names)) == len(names) and len(set(keys)) == len(keys)
    assert {column.spread for column in registry.columns() if column.spread} <= set(keys)
    assert all(column.title for column in registry.columns() if column.terminal)


def test_choices_are_the_metrics_that_need_more_than_tables():
    assert list(registry.CHOICES) == [*["is", "fid", "kid", "prc", "classes", "dup", "pairs", "cosine", "lpips", "nll"]]
    assert [*["is", "fid", "kid", "classes", "dup", "pairs", "cosine", "nll"]] == registry.DEFAULTS
    assert all(f"{name} (" in registry.HELP for name in registry.CHOICES)
    assert registry.parse_metrics("is, fid") == ["is", "fid"] and registry.parse_metrics("none") == []
    with pytest.raises(ValueError, match=r"metrics: expected a list of is, fid, .*, nll, or none; got 'work'"):
        registry.parse_metrics("is,work")


def test_a_metric_that_is_in_the_list_is_measured_and_described(monkeypatch):
    def compute(ours, others):
        return {"brightness": float(ours.of("fid").mean())}, ["brightness: of features, not of pixels"]

    column = Column("brightness", "mean feature", title="brightness", decimals=1, scale=10, minimum=-100)
    metric = Metric("bright", "Brightness", "mean of the features", "features", compute, (column,))
    monkeypatch.setattr(registry, "METRICS", (*registry.METRICS, metric))
    found = measure_images(Images(20), feature_extractor=BUNDLED_EXTRACTOR, metrics=["bright"])
    assert found["warnings"] == ["brightness: of features, not of pixels"]
    described = metrics_schema()["$defs"]["arm"]["properties"]["brightness"]
    assert described == {"type": "number", "minimum": -100, "description": "mean feature"}
    assert violations(found["brightness"], described) == []
    assert column.text(found) == f"{10 * found['brightness']:.1f}"


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (Column("x", ""), 1234.4, "1,234"),
        (Column("x", "", decimals=3), -0.0001, "0.000"),
        (Column("x", "", decimals=2, scale=1000), 0.00321, "3.21"),
        (Column("x", ""), None, "-"),
    ],
)
def test_text_of_a_value(column, value, text):
    assert column.text({"x": value}) == text
    assert column.text({}) == "-"


def test_a_spread_is_shown_on_request():
    column = Column("x", "", decimals=1, scale=10, spread="s")
    assert column.text({"x": 1, "s": 0.26}) == "10.0"
    assert column.text({"x": 1, "s": 0.26}, spread=True) == "10.0 ± 2.6"
    assert column.text({"x": 1}, spread=True) == "10.0"


@pytest.mark.parametrize(
    ("column", "valid", "invalid"),
    [
        (Column("x", "", minimum=0, maximum=1), 0.5, 1.5),
        (Column("x", "", nullable=True, dimensions=1), [0.5, None], 0.5),
        (Column("x", "", "integer", dimensions=2, minimum=0), [[1, 0]], [[-1]]),
        (Column("x", "", fields=("a", "b")), {"a": 1, "b": 2.5}, {"a": 1}),
        (Column("x", "", "string", choices=("a", "b")), "a", "c"),
    ],
)
def test_schema_of_a_column(column, valid, invalid):
    assert violations(valid, column_schema(column)) == []
    assert violations(invalid, column_schema(column)) != []


def test_the_registry_imports_no_library_of_metrics():
    """--help shows its names."""
    code = "import eval.metrics.registry, sys; print({'torchmetrics', 'torch_fidelity'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr
