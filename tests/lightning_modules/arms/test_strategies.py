"""Strategies from configs that may come from anybody: classes of sdvar, and what the user names, are all there is."""

import re
from dataclasses import dataclass

import pytest

import sdvar
from lightning_modules.arms.arm import build_arm
from lightning_modules.arms.strategies import as_config, from_config, own_classes

STRATEGIES = [
    sdvar.Baseline(),
    sdvar.Handoff(3, first="target"),
    sdvar.Speculative(2),
    sdvar.Speculative(sdvar.Spans((3, 1)), sdvar.Match(0.25, keep="draft"), verify_scales=4),
    sdvar.Speculative(sdvar.Adaptive(2, 1, 4), sdvar.Neighbour(3, 0.1)),
]


@dataclass(frozen=True)
class Mine(sdvar.Coupled):
    """A rule of a user's own."""


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_config_gives_the_strategy_back(strategy):
    assert from_config(as_config(strategy)) == strategy


def test_a_class_of_a_users_own_must_be_named():
    strategy = sdvar.Speculative(2, Mine())
    with pytest.raises(
        ValueError, match=r"expected classes of sdvar, got 'tests\.lightning_modules\.arms\.test_strategies\.Mine"
    ):
        from_config(as_config(strategy))
    assert from_config(as_config(strategy), own_classes(strategy)) == strategy


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"class_path": "os.system", "init_args": {"command": "x"}}, r"expected classes of sdvar, got 'os\.system'"),
        ({"class_path": "sdvar.Strategy"}, "expected classes of sdvar"),
        ({"class_path": "sdvar.Speculative", "init_args": {"gamma": 2, "acceptance": "planted.X"}}, "expected a rule"),
        ({"class_path": "sdvar.Speculative", "init_args": {"gamma": {"a": 1}}}, "expected classes of sdvar, got None"),
        ({"class_path": "sdvar.Speculative", "init_args": {"gamma": 0}}, "gamma: expected an int >= 1"),
        ({"class_path": "sdvar.Handoff"}, "entry"),
        ({"class_path": "sdvar.Handoff", "init_args": {"entry": 1, "colour": "red"}}, "unknown argument 'colour'"),
        ({"class_path": "sdvar.Handoff", "init_args": [1]}, "init_args: expected a mapping of names"),
        ({"class_path": "sdvar.Coupled"}, "expected class_path and init_args of a strategy"),
        ("sdvar.Baseline", "expected class_path and init_args of a strategy"),
        (None, "expected class_path and init_args of a strategy"),
    ],
)
def test_anything_else_is_one_error(config, message):
    with pytest.raises(ValueError, match=message):
        from_config(config)


def test_a_config_nested_without_end_is_one_error():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="far too deep"):
        from_config({"class_path": "sdvar.Spans", "init_args": {"scales": nested}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Speculative(Spans((0, 1)))", "scales: expected an int >= 1, got 0"),
        ("Speculative(Spans(()))", "scales: expected ints >= 1 such as (8, 1, 1), got none"),
        (
            "Speculative(spans)",
            "module.Class, got 'spans'; did you mean Spans?",
        ),
        ("Speculative(2, match)", "got 'match'; did you mean Match?"),
        ("Speculative(gamma=2, gamma=3)", "Speculative: gamma: given twice"),
    ],
)
def test_a_mistake_in_a_text_is_named(text, message):
    with pytest.raises(ValueError, match=rf"^strategy 'a': {re.escape(message)}|{re.escape(message)}$"):
        build_arm("a", text)
